"""Compiled modules answer as the module does, refuse what they cannot take, and run only where they may."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.artifact import Artifact, unpublished
from engines.load import load
from headrace.errors import ArtifactRejected, EngineFailed, EngineUnavailable, TensorRejected
from headrace.tensors import Array, Signature, TensorSpec
from optimize.compiled import PACKAGE, compile_module, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
SIGNATURE = Signature(
    (TensorSpec("ids", "INT64", ("batch", "length")), TensorSpec("scale", "FP32", ("batch",))),
    (TensorSpec("sum", "FP32", ("batch",)), TensorSpec("same", "INT64", ("batch", "length"))),
)
SHAPES = {"ids": {0: "batch", 1: "length"}, "scale": {0: "batch"}}


class Summing(torch.nn.Module):
    """The rows' sums of an embedding, times a scale; and what went in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(100, 4)
        self.head = torch.nn.Linear(4, 1)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.head(torch.relu(self.table(ids)).sum(1)).squeeze(1)
        return found * scale, ids


def inputs(rows: int, length: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 100, (rows, length)),
        "scale": rng.standard_normal(rows).astype(np.float32),
    }


def wanted(batch: dict[str, Array]) -> Array:
    with torch.no_grad():
        found: Array = Summing()(**{name: torch.tensor(array) for name, array in batch.items()})[0].numpy()
    return found


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder: Path = tmp_path_factory.mktemp("compiled")
    compile_module(Summing(), inputs(1, 3), SHAPES, "fp32", folder / PACKAGE)
    parts: dict[str, Any] = {"graph": PACKAGE, "signature": SIGNATURE, "engine": "aot", "precision": "fp32"}
    return unpublished(folder, name="summing", version="1", warm_up=({"batch": 2, "length": 5},), **parts)


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, 7), (5, 3), (32, 50)])
def test_every_shape_is_answered_as_the_module_does(artifact: Artifact, rows: int, length: int) -> None:
    engine = load(artifact, threads=1)
    engine.warm_up()
    batch = inputs(rows, length)
    found = engine.run(batch)
    np.testing.assert_allclose(found["sum"], wanted(batch), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["same"], batch["ids"])
    assert list(engine.run(batch, ("same",))) == ["same"]
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.run(batch)


def test_threads_get_each_its_own_answer(artifact: Artifact) -> None:
    engine = load(artifact, threads=2)
    batches = [inputs(1 + seed % 4, 1 + seed % 9, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: engine.run(batch)["sum"], batches))
    for batch, answer in zip(batches, found, strict=True):
        np.testing.assert_allclose(answer, wanted(batch), rtol=1e-4, atol=1e-5)


def test_arrays_may_be_read_only_or_of_another_byte_order(artifact: Artifact) -> None:
    engine = load(artifact, threads=1)
    batch = inputs(3, 4)
    turned = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in batch.items()}
    for array in turned.values():
        array.flags.writeable = False
    np.testing.assert_array_equal(engine.run(turned)["sum"], engine.run(batch)["sum"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": np.zeros((2, 3), np.int32), "scale": np.zeros(2, np.float32)},
        {"ids": np.zeros((2, 3), np.int64), "scale": np.zeros(1, np.float32)},
        {"ids": np.zeros((2, 3), np.int64)},
    ],
    ids=["dtype", "sizes", "missing"],
)
def test_what_compiled_code_would_not_look_at_is_refused_before(
    artifact: Artifact, wrong: dict[str, Array]
) -> None:
    with pytest.raises(TensorRejected):
        load(artifact, threads=1).run(wrong)


def test_a_processor_without_its_instructions_is_refused(artifact: Artifact) -> None:
    manifest = artifact.manifest.model_copy(update={"cpu_flags": ("avx1024",)})
    with pytest.raises(EngineUnavailable, match="for a CPU with avx1024, which this one lacks"):
        load(replace(artifact, manifest=manifest), threads=1)


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / PACKAGE).write_bytes(b"no package")
    broken = unpublished(
        tmp_path, name="x", version="1", graph=PACKAGE, signature=SIGNATURE, engine="aot", precision="fp32"
    )
    with pytest.raises(ArtifactRejected, match=r"'model.pt2' of 'x/1' cannot be loaded by torch"):
        load(broken, threads=1)


def test_without_torch_it_says_what_to_install(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineUnavailable, match=r"'aot' unavailable: .*install with: pip install .head"):
        load(artifact, threads=1)
