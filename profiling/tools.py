"""The profilers, by the names that users give them."""

from __future__ import annotations

import shlex
from typing import Protocol

from engines.artifact import Artifact
from engines.base import Engine
from headrace.errors import CallerError
from profiling import nsight, ort, pyspy, torch_trace, vtune
from profiling.outcome import Found, Raw
from profiling.ranges import Ranges

NAMES = ("ort", "torch", "tensorboard", "py-spy", "nsight", "vtune")
MIN_S, MAX_S = 1.0, 600.0


class Tool(Protocol):
    """A profiler within the process that it is about. All calls come from one thread, which is not the event
    loop's; `end` follows on every `begin`, also on one that failed."""

    @property
    def ranges(self) -> Ranges | None:
        """What marks batches for it, if anything does."""
        ...

    def begin(self, engine: Engine, seconds: float) -> Engine:
        """Profile from now on, for about so long. The engine that is to run batches meanwhile: the given one,
        unless the tool needs one of its own."""
        ...

    def is_enough(self) -> bool:
        """Whether it must not or can not go on for longer."""
        ...

    def end(self) -> Raw:
        """Profile no more; what was found."""
        ...


def check(name: str, seconds: float) -> None:
    """CallerError unless there is such a tool and it may run for so long."""
    if name not in NAMES:
        raise CallerError(f"no profiler {name[:40]!r}; there are: {', '.join(NAMES)}")
    if not MIN_S <= seconds <= MAX_S:
        raise CallerError(f"--seconds {seconds:g} is not within {MIN_S:g} and {MAX_S:g}")


def make(name: str, artifact: Artifact, threads: int, seconds: float, *, is_live: bool) -> Tool:
    """The tool, ready to begin. ToolFailed says what is missing here and how to get it."""
    manifest = artifact.manifest
    match name:
        case "ort":
            from profiling.ort_tool import OrtTool

            return OrtTool(artifact, threads, is_live=is_live)
        case "torch" | "tensorboard":
            from profiling.torch_tool import TorchTool

            return TorchTool()
        case "py-spy":
            return pyspy.PySpyTool(is_live=is_live)
        case "nsight":
            return nsight.NsightTool(manifest.name, manifest.version, seconds)
        case _:
            arguments = [manifest.name, "--version", manifest.version, "--repository", "REPOSITORY"]
            again = ["headrace", "profile", *arguments, "--with", "vtune", "--seconds", f"{seconds:g}"]
            return vtune.VtuneTool(seconds, "" if is_live else shlex.join(again))


def read(name: str, raw: Raw) -> Found:
    """What a tool's files say."""
    match name:
        case "ort":
            return ort.read(raw.files, raw.facts)
        case "torch" | "tensorboard":
            return torch_trace.read(raw.files, raw.facts)
        case "py-spy":
            return pyspy.read(raw.files, raw.facts)
        case "nsight":
            return nsight.found(raw)
        case _:
            return vtune.found(raw)
