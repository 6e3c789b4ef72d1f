"""Engines: those that are installed compute a tiny model, each in a process of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from deployments.doctor.check import Check, bad, ok, warn
from engines.probe import probe

_ENGINES = ("onnxruntime", "openvino", "tensorrt")


def checks() -> Iterator[Check]:
    installed = [name for name in _ENGINES if importlib.util.find_spec(name) is not None]
    with ThreadPoolExecutor(len(_ENGINES)) as pool:
        found = dict(zip(installed, pool.map(probe, installed), strict=True))
    for name in _ENGINES:
        yield engine(name, found.get(name))


def engine(name: str, reason: str | None) -> Check:
    """`reason`: why it does not work, "": it does; None: not installed."""
    title = f"engine {name}"
    if reason is None:
        if name == "onnxruntime":
            return bad(title, "missing", "pip install onnxruntime: it is what models run on")
        return ok(title, "not installed: no version for it can be made or run here")
    if not reason:
        return ok(title, "computes rightly")
    advice = "no version for it can be made or run here; another release may do: pip install -U " + name
    return bad(title, reason, advice) if name == "onnxruntime" else warn(title, reason, advice)
