"""Which TensorRT is here: `tensorrt` (10 and 11), or `tensorrt_rtx`, whose names are the same.

RTX builds plans without a GPU, for several architectures at once; TensorRT builds for the GPU that it runs
on.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from headrace.errors import EngineUnavailable

TENSORRT, RTX = "tensorrt", "tensorrt_rtx"
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
    why = []
    for name in wanted:
        try:
            return Library(name, importlib.import_module(name))
        except Exception as err:  # without its libraries it raises what it likes
            why.append(f"{name}: {type(err).__name__}: {err}")
    how = " or ".join(INSTALL[name] for name in wanted)
    raise EngineUnavailable(f"engine 'tensorrt' unavailable ({'; '.join(why)}); install it: {how}")


def _dotted(name: str) -> str:
    digits = name.removeprefix("SM")
    return f"{digits[:-1]}.{digits[-1]}"
