"""Five minutes for real, and the same simulated: within 15%. It has a server of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.agreement import agreement

LATE_MS = 100.0  # of this client, for one request in a hundred


@pytest.mark.serve
def test_a_simulation_agrees_with_a_real_run(tmp_path: Path) -> None:
    found = agreement(tmp_path)
    assert found.real.refused == 0
    assert found.replica_hours == pytest.approx(1, abs=0.15)
    if found.late_ms > LATE_MS:  # misses are the machine's then, too
        pytest.skip(f"misses not compared: the machine was busy, this client {found.late_ms:.0f} ms late")
    assert found.real.misses > 300  # else chance decides
    assert found.misses == pytest.approx(1, abs=0.15)
