"""A log directory for TensorBoard: torch's trace, and scalars of the traffic over time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.errors import ToolFailed
from profiling.torch_trace import TRACE

# By the names in a timeline of profiling.probe.
_TAGS = {
    "p50_s": "latency_s/p50",
    "p95_s": "latency_s/p95",
    "p99_s": "latency_s/p99",
    "requests_per_s": "throughput/requests_per_s",
    "rows_per_s": "throughput/rows_per_s",
    "batch_rows": "batch/rows",
    "batch_fill": "batch/fill",
    "batch_s": "batch/seconds",
}
_PLUGIN = "pip install torch-tb-profiler"


def check() -> None:
    """ToolFailed where the libraries are missing that write_logs needs, here, where the command runs."""
    try:
        from torch.utils import tensorboard  # noqa: F401  whether it can be imported is the question
    except ImportError as err:
        raise ToolFailed(
            f"TensorBoard's logs cannot be written here ({err.msg}); install: pip install torch tensorboard"
        ) from err


def write_logs(
    folder: Path, trace: bytes, timeline: Sequence[Mapping[str, float | None]], ended: float
) -> list[str]:
    """`folder` as `tensorboard --logdir` takes it; how to look at it. `ended` is in Unix seconds."""
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    whole_s = timeline[-1]["at_s"] if timeline else 0.0
    writer = SummaryWriter(str(folder))
    for n, point in enumerate(timeline):
        at = ended - float(whole_s or 0) + float(point["at_s"] or 0)
        for name, tag in _TAGS.items():
            if (value := point[name]) is not None:
                writer.add_scalar(tag, value, n, walltime=at)
    writer.close()
    # The plugin takes a trace for one by its name.
    (folder / f"headrace.{int(time.time() * 1000)}.pt.trace.json.gz").write_bytes(trace)
    return [
        f"tensorboard --logdir {folder}",
        f"TensorBoard shows the scalars; for its trace view: {_PLUGIN} (no longer developed). "
        f"The same trace opens as {TRACE} at https://ui.perfetto.dev",
    ]
