"""torch.profiler around all that a process does for some seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import psutil

from engines.base import Engine
from headrace.errors import ToolFailed
from profiling.outcome import Raw
from profiling.ranges import TorchRanges
from profiling.torch_trace import TRACE, stripped

MOST_MEMORY = 512 << 20  # what the events may take before it ends early


class TorchTool:
    """Operators of torch with shapes and memory, and of every engine the batches with their steps; see
    profiling.tools.Tool. ToolFailed where torch is missing, or is too old."""

    def __init__(self) -> None:
        self.ranges = TorchRanges()
        self._profile: Any = None
        self._memory = 0

    def begin(self, engine: Engine, seconds: float) -> Engine:
        import torch
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        try:
            # Engines run on threads of their own; and what Python would make of the events is not needed.
            settings = torch._C._profiler._ExperimentalConfig(profile_all_threads=True, trace_only=True)
        except (AttributeError, TypeError) as err:
            raise ToolFailed(
                f"torch {torch.__version__} cannot profile all threads; install torch 2.13"
            ) from err
        self._profile = profile(
            activities=activities, record_shapes=True, profile_memory=True, experimental_config=settings
        )
        self._profile.start()
        self._memory = psutil.Process().memory_info().rss
        return engine

    def is_enough(self) -> bool:
        return bool(psutil.Process().memory_info().rss - self._memory > MOST_MEMORY)

    def end(self) -> Raw:
        if self._profile is None:
            return Raw()
        import torch

        self._profile.stop()
        with tempfile.TemporaryDirectory(prefix="headrace-profile-") as folder:
            file = Path(folder) / "trace.json"
            self._profile.export_chrome_trace(str(file))
            data = stripped(file)
        self._profile = None
        return Raw({TRACE: data}, {"torch": torch.__version__})
