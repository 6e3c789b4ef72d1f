"""The real libraries, which do nothing where no tool listens; torch listens to itself."""

from __future__ import annotations

import threading

import pytest

from profiling.ranges import IttRanges, NvtxRanges, Ranges, TorchRanges


@pytest.fixture(params=[NvtxRanges, IttRanges, TorchRanges])
def ranges(request: pytest.FixtureRequest) -> Ranges:
    found: Ranges = request.param()
    return found


def test_ranges_lie_within_one_another_on_each_thread(ranges: Ranges) -> None:
    def work() -> None:
        for _ in range(100):
            with ranges.within("batch"), ranges.within("engine"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_requests_may_overlap(ranges: Ranges) -> None:
    first, second = ranges.across("request"), ranges.across("request")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)


def test_an_error_goes_through_a_range(ranges: Ranges) -> None:
    with pytest.raises(ValueError, match="no"), ranges.within("engine"):
        raise ValueError("no")
