"""The machine that figures were measured on: a number without it says little."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from engines.cpu import cpu_flags, cpu_model

_LIBRARIES = ("onnxruntime", "onnx", "numpy")


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    cores: int
    flags: tuple[str, ...]
    system: str
    versions: Mapping[str, str]  # of Python and the libraries


def this_machine() -> Machine:
    libraries = {library: metadata.version(library) for library in _LIBRARIES}
    return Machine(
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        flags=cpu_flags(),
        system=f"{platform.system()} {platform.machine()}",
        versions={"python": platform.python_version(), **libraries},
    )
