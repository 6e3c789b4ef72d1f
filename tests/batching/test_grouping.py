"""Padding is only worth it where batches are."""

from __future__ import annotations

import pytest

from batching.grouping import auto_grouping, gain_of_batching
from engines.manifest import BatchLatency


def entry(batch: int, median_ms: float, length: int = 8, threads: int = 1) -> BatchLatency:
    return BatchLatency(
        batch=batch,
        sizes={"length": length},
        threads=threads,
        median_ms=median_ms,
        low_ms=median_ms,
        high_ms=median_ms,
    )


FASTER = (entry(1, 1.0), entry(2, 1.5), entry(8, 4.0))
NO_FASTER = (entry(1, 1.0), entry(2, 1.98), entry(8, 7.8))


@pytest.mark.parametrize(
    ("pads", "latencies", "grouping"),
    [
        (True, FASTER, "nearest"),
        (True, NO_FASTER, "exact"),
        (False, FASTER, "exact"),
        (True, (), "nearest"),
        (True, FASTER[:1], "nearest"),
        (False, (), "exact"),
    ],
)
def test_requests_are_padded_where_they_may_be_and_batches_gain(pads, latencies, grouping) -> None:
    assert auto_grouping(pads, latencies) == grouping


def test_the_gain_is_that_of_the_best_batch_over_all_shapes() -> None:
    assert gain_of_batching(FASTER, 1) == pytest.approx(2.0)
    longer = (entry(1, 10.0, 64), entry(2, 20.0, 64), entry(8, 80.0, 64))
    assert gain_of_batching((*FASTER, *longer), 1) == pytest.approx(1.5)


def test_figures_of_as_many_threads_count_first() -> None:
    two = (entry(1, 1.0, threads=2), entry(8, 8.0, threads=2))
    assert gain_of_batching((*FASTER, *two), 2) == pytest.approx(1.0)
    assert gain_of_batching(FASTER, 4) == pytest.approx(2.0)
