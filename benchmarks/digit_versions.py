"""Versions of a classifier of written digits: good ones, and some that are not as good as they look."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import digits_code
from deployments.load import infer_request
from engines.artifact import Repository
from headrace.tensors import Array
from optimize.publish import publish
from tests.digit_images import images

MODEL = "digits"
_USUAL: Mapping[str, Any] = {"base_s": 0.004, "row_s": 0.001, "fails": 0.0, "flips": 0.0, "loads": True}
VERSIONS: Mapping[str, Mapping[str, Any]] = {
    "1": {},
    "2": {"copy": True},  # as good
    "fails": {"fails": 0.05},
    "slow": {"base_s": 0.008, "row_s": 0.002},
    "flips": {"flips": 0.03},
    "broken": {"loads": False},
}


def publish_versions(repository: Repository, names: Mapping[str, Mapping[str, Any]] = VERSIONS) -> None:
    """Each a version of its own, with the same weights."""
    x, labels = images()
    flat = np.c_[x.reshape(len(x), -1), np.ones(len(x), np.float32)]
    weights = np.linalg.lstsq(flat, np.eye(10, dtype=np.float32)[labels], rcond=None)[0]
    for version, settings in names.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            shutil.copy(digits_code.__file__, root)
            np.save(root / digits_code.WEIGHTS, weights.astype(np.float32))
            (root / digits_code.SETTINGS).write_text(json.dumps({**_USUAL, **settings}))
            publish(root / Path(digits_code.__file__).name, repository, MODEL, version)


def inputs(count: int, seed: int = 0) -> Array:
    """So many pictures of digits (count, 64) FP32, no two the same."""
    x, _ = images()
    flat = x.reshape(len(x), -1).astype(np.float32)
    found = flat[np.arange(count) % len(flat)].copy()
    found[:, 0] += np.random.default_rng(seed).random(count, np.float32) * 1e-3  # which is always white
    return found


def requests(count: int, seed: int = 0) -> list[bytes]:
    """HTTP requests, one picture each."""
    return [infer_request("bench", MODEL, {"x": row[None]}) for row in inputs(count, seed)]
