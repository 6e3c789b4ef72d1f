"""Which TensorRT is here: `tensorrt` (10 and 11), or `tensorrt_rtx`, whose names are the same.

RTX builds plans without a GPU, for several architectures at once; TensorRT builds for the GPU that it runs
on.
"""

from __future__ import annotations

import importlib
from collections import deque
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from engines.driver import Device
from headrace.errors import ConfigRejected, EngineUnavailable

TENSORRT, RTX = "tensorrt", "tensorrt_rtx"
_MOST_TOLD = 5  # errors
_MOST_KEPT = 100  # warnings
INSTALL = {TENSORRT: "pip install 'headrace[gpu]'", RTX: "pip install 'headrace[rtx]'"}


@dataclass(frozen=True, slots=True)
class Library:
    name: str
    module: ModuleType

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def in_words(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def architectures(self) -> tuple[str, ...]:
        """For which it can build without their being here, as "8.9"; () where it builds for its own GPU."""
        known = getattr(self.module, "ComputeCapability", None)
        if known is None:
            return ()
        return tuple(_dotted(name) for name in known.__members__ if name.startswith("SM"))

    def gpu(self, device: Device) -> str:
        """What a plan that is built on this GPU is for: RTX's for each of its compute capability, TensorRT's
        for GPUs of this name."""
        return device.architecture if self.architectures else f"{device.architecture} {device.name}"

    def architecture(self, dotted: str) -> Any:
        """The library's own name of "8.9"; EngineUnavailable lists those that it has."""
        if dotted not in self.architectures:
            known = ", ".join(self.architectures) or "only that of the GPU it runs on"
            raise EngineUnavailable(
                f"{self.in_words} cannot build for compute capability {dotted!r}; it has: {known}"
            )
        return self.module.ComputeCapability.__members__["SM" + dotted.replace(".", "")]


def find(*names: str) -> Library:
    """The first of these libraries that can be imported, TensorRT before RTX unless told;
    EngineUnavailable says what to install."""
    wanted = names or (TENSORRT, RTX)
    if unknown := [name for name in wanted if name not in INSTALL]:
        raise ConfigRejected(f"there is no library {unknown[0][:64]!r}; allowed: {', '.join(INSTALL)}")
    why = []
    for name in wanted:
        try:
            return Library(name, importlib.import_module(name))
        except Exception as err:  # without its libraries it raises what it likes
            why.append(f"{name}: {type(err).__name__}: {err}")
    how = " or ".join(INSTALL[name] for name in wanted)
    raise EngineUnavailable(f"engine 'tensorrt' unavailable ({'; '.join(why)}); install it: {how}")


def log_of(trt: Any) -> Any:
    """Of TensorRT's type: keeps what it is told, instead of printing it; `why()` is the latest errors."""

    class Log(trt.ILogger):  # type: ignore[misc]  # of a module that is found at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: deque[str] = deque(maxlen=_MOST_KEPT)
            self.errors: deque[str] = deque(maxlen=_MOST_TOLD)

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)
            elif severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def why(self) -> str:
            told = [" ".join(line.split()) for line in self.errors]
            self.errors.clear()  # they are of this failure, and of none to come
            return "; ".join(told) or "it does not say why"

    return Log()


def _dotted(name: str) -> str:
    digits = name.removeprefix("SM")
    return f"{digits[:-1]}.{digits[-1]}"
