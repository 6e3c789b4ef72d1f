"""A minute of load of all kinds, mistakes among it. What takes longer to show, memory, is measured in an
hour: `python -m benchmarks.observability --only soak`."""

import pytest

from benchmarks.observability import soak_server
from benchmarks.soak import Soaked, labels, soak

RATE_PER_S = 60.0
SECONDS = 60.0
MOST_LABELS = 100  # there are 64 after an hour


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Soaked, set[str]]:
    with soak_server(tmp_path_factory.mktemp("models"), memory_mib=1.0) as (server, models):
        soaked = soak(server, models, SECONDS, RATE_PER_S)
        return soaked, labels(server)


def test_every_request_gets_the_status_that_it_deserves(found: tuple[Soaked, set[str]]) -> None:
    soaked, _ = found
    assert soaked.requests >= 0.9 * SECONDS * RATE_PER_S
    assert (soaked.unexpected, soaked.ended) == (0, 0)


def test_labels_of_metrics_do_not_follow_what_callers_make_up(found: tuple[Soaked, set[str]]) -> None:
    _, told = found
    assert not [label for label in told if "made-up" in label or "wrong_" in label]
    assert 0 < len(told) <= MOST_LABELS


def test_every_process_is_looked_at(found: tuple[Soaked, set[str]]) -> None:
    soaked, _ = found
    kinds = {name.split()[0] for name in soaked.mib_per_minute}
    assert kinds >= {"gateway", "replica", "monitor", "controller", "haproxy", "cache"}
