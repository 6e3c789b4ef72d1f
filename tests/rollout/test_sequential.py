"""A bet against the claim that little is bad: it wins where that is false, and seldom where it holds."""

import numpy as np
import pytest

from rollout.sequential import trial

ALPHA = 0.05


def played(shares, allowed, requests=20, burst=1, times=20.0):
    shares = np.asarray(shares, dtype=float)
    seen = np.full(len(shares), float(requests))
    return trial(shares * seen, seen, np.full(len(shares), allowed), burst, times)


def test_no_window_is_no_evidence():
    found = played([], 0.01)
    assert (found.last, found.peak) == (1.0, 1.0)


def test_what_is_allowed_exactly_is_no_evidence():
    assert played([0.5] * 50, 0.5).peak == pytest.approx(1.0)


def test_the_claim_is_hardly_ever_refuted_where_it_holds_however_often_one_looks():
    """A peak over all windows is a look after each of them; whole windows are bad here, the worst case."""
    random = np.random.default_rng(1)
    refuted = 0
    for _ in range(2000):
        shares = random.random(400) < 0.01
        refuted += played(shares, 0.01, burst=20).peak >= 1 / ALPHA
    assert refuted / 2000 <= ALPHA


def test_a_fixed_sample_test_at_every_look_would_refute_it_far_more_often():
    """So the test above could fail."""
    random = np.random.default_rng(1)
    bad = np.cumsum(random.random((2000, 400)) < 0.5, axis=1)
    looks = np.arange(1, 401)
    is_beyond = (bad - looks * 0.5) / np.sqrt(looks * 0.25) > 1.645
    assert is_beyond[:, 30:].any(axis=1).mean() > 3 * ALPHA


def test_what_is_false_is_refuted_soon():
    random = np.random.default_rng(2)
    windows = random.binomial(10, 0.05, 60) / 10
    assert played(windows, 0.005, requests=10, burst=2, times=10).peak > 1800


def test_evidence_that_was_beyond_chance_once_is_not_undone():
    found = played([1.0] * 20 + [0.0] * 400, 0.5)
    assert found.peak > 1000
    assert found.last < 1


def test_a_pause_is_one_event_however_many_requests_it_meets():
    pause = [0.0] * 28 + [1.0, 1.0]
    assert played(pause, 0.01, requests=10_000).peak < 100
    assert played(pause, 0.01, requests=10).peak < 100


def test_evidence_without_end_stays_a_number():
    assert np.isfinite(played([1.0] * 10_000, 0.01).peak)
