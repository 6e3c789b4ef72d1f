"""A log directory that TensorBoard itself reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiling.probe import Probe
from profiling.tensorboard import check, write_logs

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_latencies_throughput_and_batches_are_scalars_over_time(tmp_path: Path) -> None:
    check()
    probe = Probe(clock=lambda: 7.0)
    with probe.request():
        pass
    probe.batch(8, 0.5, 0.01)
    view = write_logs(tmp_path / "logs", b"trace", probe.timeline(1.0), ended=1000.0)
    events = event_accumulator.EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {"latency_s/p50", "latency_s/p99", "throughput/requests_per_s", "batch/rows", "batch/fill"} <= set(
        scalars
    )
    first, second = events.Scalars("throughput/requests_per_s")
    assert (first.value, second.value) == (2.0, 0.0)
    assert (first.wall_time, second.wall_time) == (999.5, 1000.0)
    assert events.Scalars("batch/fill")[0].value == pytest.approx(0.5)
    (trace,) = (tmp_path / "logs").glob("*.pt.trace.json.gz")
    assert trace.read_bytes() == b"trace"
    assert view[0] == f"tensorboard --logdir {tmp_path / 'logs'}"
