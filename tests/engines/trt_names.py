"""The names of a TensorRT binding with their signatures, as JSON: `python trt_names.py MODULE`."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import warnings


def names(module: object) -> dict[str, dict[str, list[str]]]:
    """By class: its public attributes, methods with their signatures."""
    found = {}
    for name, thing in vars(module).items():
        if inspect.isclass(thing):
            attributes = {key: getattr(thing, key) for key in dir(thing) if not key.startswith("_")}
            found[name] = {key: _signature(key, value) for key, value in attributes.items()}
    return found


def _signature(key: str, value: object) -> list[str]:
    """As the binding's own text has them: one, or one for each way to call it."""
    if not callable(value):
        return []
    lines = [line.strip() for line in (value.__doc__ or "").splitlines()]
    found = [line[line.index(f"{key}(") :] for line in lines if f"{key}(self" in line]
    for module in ("tensorrt_bindings.tensorrt.", "tensorrt_rtx_bindings.tensorrt_rtx."):
        found = [line.replace(module, "") for line in found]
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(names(importlib.import_module(sys.argv[1]))))
