"""Requests' inputs as one file of numpy's, readable without pickle: text as bytes with their lengths."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import ConfigRejected
from headrace.tensors import DTYPES, Array, TensorMap, dtype_name

_HEADER = "headrace"
_FORMAT = 1
_BITS = np.dtype(np.uint16)  # what stands for a BF16, which numpy's files do not know


def write_inputs(path: Path, rows: Sequence[TensorMap]) -> None:
    """Put in place at once; every request has the same inputs."""
    names = {name: dtype_name(array) for name, array in rows[0].items()} if rows else {}
    header = json.dumps({"format": _FORMAT, "requests": len(rows), "inputs": names}).encode()
    arrays: dict[str, Array] = {_HEADER: np.frombuffer(header, np.uint8)}
    for row, inputs in enumerate(rows):
        for number, (name, dtype) in enumerate(names.items()):
            arrays |= _written(f"{row}.{number}", inputs[name], dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_inputs(path: Path) -> list[dict[str, Array]]:
    """What was written; ConfigRejected when it is another file, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header: dict[str, Any] = json.loads(arrays[_HEADER].tobytes())
            if header["format"] != _FORMAT:
                raise ConfigRejected(
                    f"{path.name} is of format {header['format']}; this release reads {_FORMAT}"
                )
            named = list(enumerate(header["inputs"].items()))
            return [
                {name: _read(arrays, f"{row}.{number}", dtype) for number, (name, dtype) in named}
                for row in range(header["requests"])
            ]
    except FileNotFoundError as err:
        raise ConfigRejected(
            f"no file of inputs {path.name!r}; write one by: headrace inputs MODEL --out {path.name}"
        ) from err
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as err:
        raise ConfigRejected(
            f"{path.name} holds no inputs that can be read ({type(err).__name__}: {err}); write it anew by: "
            f"headrace inputs MODEL --out {path.name}"
        ) from err


def _written(key: str, array: Array, dtype: str) -> dict[str, Array]:
    if dtype == "BYTES":
        items = [item if isinstance(item, bytes) else str(item).encode() for item in array.flat]
        lengths = np.array([len(item) for item in items], np.int64).reshape(array.shape)
        return {f"{key}.bytes": np.frombuffer(b"".join(items), np.uint8), f"{key}.lengths": lengths}
    array = np.asarray(array, DTYPES[dtype], order="C")
    return {key: array.view(_BITS) if dtype == "BF16" else array}


def _read(arrays: Any, key: str, dtype: str) -> Array:
    if dtype != "BYTES":
        array: Array = arrays[key]
        return array.view(DTYPES["BF16"]) if dtype == "BF16" else array
    data, lengths = arrays[f"{key}.bytes"].tobytes(), arrays[f"{key}.lengths"]
    ends = np.cumsum(lengths, dtype=np.int64, axis=None)
    found = np.empty(lengths.size, object)
    for at, (end, length) in enumerate(zip(ends, lengths.flat, strict=True)):
        found[at] = data[int(end) - int(length) : int(end)]
    return found.reshape(lengths.shape)
