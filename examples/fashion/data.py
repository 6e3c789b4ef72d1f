"""Fashion-MNIST out of its four files: 60,000 images to train with, 10,000 to judge with.

The files are those of Debian's package dataset-fashion-mnist. They are looked for in the folder
that HEADRACE_FASHION_MNIST names, then where the package puts them, then in out/data/fashion-mnist.
"""

from __future__ import annotations

import gzip
import os
import struct
from functools import cache
from pathlib import Path

import numpy as np

from headrace.errors import ConfigRejected
from headrace.tensors import Array

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (Path("/usr/share/datasets/fashion-mnist"), ROOT / "out" / "data" / "fashion-mnist")
VALIDATION = 5000  # of the training images, the last ones: to tune with, never trained on

_FILES = {"train": "train", "test": "t10k"}
_BYTES = 0x08  # the IDX format's number for unsigned bytes


def training() -> tuple[Array, Array]:
    """Images (55000, 1, 28, 28) FP32 from 0 to 1, and their classes (55000,) INT64."""
    images, labels = _split("train")
    return images[:-VALIDATION], labels[:-VALIDATION]


def validation() -> tuple[Array, Array]:
    """The last 5,000 of the training set."""
    images, labels = _split("train")
    return images[-VALIDATION:], labels[-VALIDATION:]


def test() -> tuple[Array, Array]:
    """The 10,000 test images, which nothing is tuned on."""
    return _split("test")


def read_idx(path: Path) -> Array:
    """The unsigned bytes of a gzipped IDX file, in its own shape; ConfigRejected when it is not one."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as err:
        raise ConfigRejected(f"{path.name} is not a whole gzip file; {_how_to_get()}") from err
    try:
        zeros, kind, axes = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{axes}I", data, 4)
        if (zeros, kind) != (0, _BYTES):
            raise ValueError("another kind of values")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (struct.error, ValueError) as err:
        raise ConfigRejected(f"{path.name} is not an IDX file of bytes; {_how_to_get()}") from err


def folder() -> Path:
    """Where the files are; ConfigRejected says how to get them."""
    named = os.environ.get("HEADRACE_FASHION_MNIST")
    for place in (Path(named),) if named else FOLDERS:
        if (place / f"{_FILES['train']}-images-idx3-ubyte.gz").is_file():
            return place
    where = f"the folder of HEADRACE_FASHION_MNIST, {named!r}, has no" if named else "there are no"
    raise ConfigRejected(f"{where} Fashion-MNIST files; {_how_to_get()}")


@cache
def _split(name: str) -> tuple[Array, Array]:
    place = folder()
    images = read_idx(place / f"{_FILES[name]}-images-idx3-ubyte.gz")
    labels = read_idx(place / f"{_FILES[name]}-labels-idx1-ubyte.gz")
    if len(images) != len(labels):
        raise ConfigRejected(f"{len(images)} {name} images have {len(labels)} labels; {_how_to_get()}")
    scaled = (images / np.float32(255))[:, None]
    return scaled.astype(np.float32), labels.astype(np.int64)


def _how_to_get() -> str:
    return (
        "install them with: apt-get install dataset-fashion-mnist, or put its four .gz files into a folder "
        "and name it in HEADRACE_FASHION_MNIST"
    )
