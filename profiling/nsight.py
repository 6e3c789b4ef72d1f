"""Nsight Systems and Nsight Compute: NVTX ranges for them, and the commands that collect."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from engines.base import Engine
from headrace.errors import ToolFailed
from profiling.commands import find
from profiling.outcome import Found, Raw
from profiling.ranges import DOMAIN, NvtxRanges

REPORT = "headrace.nsys-rep"
SESSION = "headrace"
CAPTURE = "profile"  # the range that is open for as long as a profile
_FOLDERS = (
    "/opt/nvidia/nsight-systems/*/bin",
    "/opt/nvidia/nsight-systems-cli/*/bin",
    "/usr/local/cuda/bin",
)
_INJECTED = "NVTX_INJECTION64_PATH"  # set in all that nsys or ncu has started
_PATIENCE_S = 120.0
_TRACE = "--trace=cuda,nvtx,osrt"
_REGISTERED = "--env-var=NSYS_NVTX_PROFILER_REGISTER_ONLY=0"
INSTALL = (
    "get Nsight Systems (nsys) and Nsight Compute (ncu): apt-get install nsight-systems-cli nsight-compute "
    "from NVIDIA's repository, or https://developer.nvidia.com/nsight-systems"
)
LIMITS = (
    "nsys cannot attach to a process that runs already: it sees CUDA and ranges of what it has started, so "
    "the deployment is to be started under it, once (first and second command). ncu runs each kernel several "
    "times, so it is for an artifact alone (third command)"
)


def commands(model: str, version: str, seconds: float) -> list[str]:
    """What collects from a deployment, from an artifact alone, and from single kernels."""
    alone = f"headrace profile {model} --version {version} --repository REPOSITORY --with nsight"
    session = f"nsys start --session={SESSION} --output={REPORT}; nsys stop --session={SESSION}"
    return [
        f"nsys launch --session-new={SESSION} {_TRACE} headrace serve CONFIG",
        f"headrace profile {model} --version {version} --with nsight --seconds {seconds:g}  # {session}",
        f"ncu --target-processes all --nvtx --nvtx-include '{DOMAIN}@engine/' --launch-count 50 "
        f"--export headrace {alone} --seconds {seconds:g}",
    ]


def around(nsys: str, out: Path, command: list[str]) -> list[str]:
    """`command`, which profiles an artifact alone, under nsys; it collects while the range is open."""
    options = [_TRACE, "--capture-range=nvtx", f"--nvtx-capture={CAPTURE}@{DOMAIN}"]
    options += ["--capture-range-end=stop", _REGISTERED, "--force-overwrite=true"]
    return [nsys, "profile", *options, f"--output={out / REPORT}", *command]


def program() -> str | None:
    return find("nsys", *_FOLDERS)


def is_under() -> bool:
    """Whether this process was started by nsys or ncu, which then collect by themselves."""
    return _INJECTED in os.environ


class NsightTool:
    """NVTX ranges around batches, their steps and requests; see profiling.tools.Tool. A session that the
    deployment was started in is started and stopped.

    ToolFailed tells how to get nsys and with which commands it collects, when this process is not under it.
    """

    def __init__(self, model: str, version: str, seconds: float) -> None:
        self.ranges = NvtxRanges()
        self._nsys = program()
        self._session = self._nsys is not None and SESSION in self._said("sessions", "list")
        if not self._session and not is_under():
            told = "\n  ".join(commands(model, version, seconds))
            have = f"this process (PID {os.getpid()}) was not started under nsys"
            have = have if self._nsys else f"nsys is missing where the model runs: {INSTALL}"
            raise ToolFailed(f"{have}.\n{LIMITS}:\n  {told}")
        self._capture: AbstractContextManager[object] | None = None

    def begin(self, engine: Engine, seconds: float) -> Engine:
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-profile-")
        if self._session:
            self._said("start", f"--session={SESSION}", f"--output={Path(self._folder.name) / REPORT}")
        self._capture = self.ranges.within(CAPTURE)
        self._capture.__enter__()
        return engine

    def is_enough(self) -> bool:
        return False

    def end(self) -> Raw:
        if self._capture is None:
            return Raw()
        self._capture.__exit__(None, None, None)
        self._capture = None
        with self._folder:
            if not self._session:
                return Raw(notes=["nsys or ncu, which has started this process, writes its report by itself"])
            self._said("stop", f"--session={SESSION}")
            report = Path(self._folder.name) / REPORT
            if not report.is_file():
                raise ToolFailed(
                    f"nsys has left no report; see: nsys sessions list, and its log of {SESSION}"
                )
            return Raw({REPORT: report.read_bytes()})

    def _said(self, *arguments: str) -> str:
        """What nsys says; it must not itself be traced. ToolFailed with its words."""
        assert self._nsys is not None
        environment = {name: value for name, value in os.environ.items() if "INJECTION" not in name}
        environment.pop("LD_PRELOAD", None)
        try:
            ended = subprocess.run(  # noqa: S603  the arguments are ours
                [self._nsys, *arguments], capture_output=True, timeout=_PATIENCE_S, env=environment, text=True
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise ToolFailed(f"nsys {arguments[0]} failed: {type(err).__name__}") from err
        if ended.returncode:
            raise ToolFailed(f"nsys {arguments[0]} failed: {(ended.stderr or ended.stdout).strip()[-300:]}")
        return ended.stdout


def found(raw: Raw) -> Found:
    """How to look at what was collected."""
    view = [f"nsys-ui {{out}}/{REPORT}", f"nsys stats --report nvtx_sum,cuda_gpu_kern_sum {{out}}/{REPORT}"]
    return Found(files=raw.files, view=view if raw.files else [])
