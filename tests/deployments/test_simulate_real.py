"""Five minutes for real, and the same simulated: within 15%. It has a server of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.agreement import Agreement, agreement

LATE_MS = 100.0  # of this client, for one request in a hundred
RUNS = 2  # the machine may be busy with others in one of them


def within(ratio: float) -> bool:
    return ratio == pytest.approx(1, abs=0.15)


def agrees(found: Agreement) -> bool:
    """Misses are the machine's, too, where it had no time for its own client."""
    return within(found.replica_hours) and (within(found.misses) or found.late_ms > LATE_MS)


@pytest.mark.serve
def test_a_simulation_agrees_with_a_real_run(tmp_path: Path) -> None:
    found: list[Agreement] = []
    while len(found) < RUNS and not (found and agrees(found[-1])):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        found.append(agreement(folder))
        assert found[-1].real.refused == 0
        assert found[-1].real.misses > 300  # else chance decides
    told = [(run.replica_hours, run.misses, run.late_ms) for run in found]
    assert agrees(found[-1]), told
    if found[-1].late_ms > LATE_MS:
        pytest.skip(f"misses not compared: the machine was busy: {told}")
