"""Compiled modules answer as the module does, refuse what they cannot take, and run only where they may."""

from __future__ import annotations

import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from engines.artifact import Artifact, unpublished
from engines.load import load
from headrace.errors import ArtifactRejected, EngineFailed, EngineUnavailable, TensorRejected
from headrace.tensors import Array, Signature, TensorSpec
from optimize.compiled import PACKAGE, compile_module, why_not
from tests.engines.modules import SIGNATURE, compiled, inputs, wanted

pytestmark = pytest.mark.skipif(bool(why_not("aot")), reason=why_not("aot") or "-")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compiled(tmp_path_factory.mktemp("compiled"))


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


class Slow(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(60):
            x = torch.tanh(x @ x)
        return x


def test_other_threads_go_on_while_a_batch_is_computed(tmp_path: Path) -> None:
    """An event loop is among them."""
    shape = (1200, 1200)
    signature = Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", shape),))
    compile_module(Slow(), {"x": np.zeros(shape, np.float32)}, {}, "fp32", tmp_path / PACKAGE)
    slow = unpublished(
        tmp_path, name="slow", version="1", graph=PACKAGE, signature=signature, engine="aot", precision="fp32"
    )
    engine = load(slow, threads=1)
    ticks: list[float] = []
    has_ended = threading.Event()

    def tick() -> None:
        while not has_ended.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.perf_counter()
    engine.run({"x": np.zeros(shape, np.float32)})
    ended = time.perf_counter()
    has_ended.set()
    thread.join()
    quarter = (ended - began) / 4
    within = [moment for moment in ticks if began + quarter < moment < ended - quarter]
    assert len(within) > 5
    engine.close()


def test_nothing_of_a_batch_is_left_behind(artifact: Artifact) -> None:
    engine = load(artifact, threads=1, streams=2)
    batch = inputs(200, 60)
    used = []
    for _ in range(3):
        for _ in range(1500):
            engine.run(batch)
        used.append(psutil.Process().memory_info().rss)
    assert used[2] - used[1] < 20 << 20  # inputs and outputs of one round are 290 MB
    engine.close()


def test_closed_while_it_runs_it_ends_that_first(artifact: Artifact) -> None:
    engine = load(artifact, threads=1, streams=2)
    batch = inputs(50, 60)
    want = wanted(batch)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(engine.run, batch) for _ in range(400)]
        futures[3].result()
        engine.close()
    answers = [future for future in futures if future.exception() is None]
    assert 3 < len(answers) < len(futures)
    for future in answers:
        np.testing.assert_allclose(future.result()["sum"], want, rtol=1e-4, atol=1e-5)
    assert all(isinstance(f.exception(), EngineFailed) for f in futures if f not in answers)


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


def test_code_that_does_not_do_what_the_manifest_tells_is_refused(artifact: Artifact) -> None:
    inputs, outputs = artifact.manifest.signature.inputs, artifact.manifest.signature.outputs
    for signature in (Signature(inputs[:1], outputs), Signature(inputs, outputs[:1])):
        manifest = artifact.manifest.model_copy(update={"signature": signature})
        with pytest.raises(
            ArtifactRejected, match="takes ids, scale and gives 2 outputs; its manifest tells"
        ):
            load(replace(artifact, manifest=manifest), threads=1)


def test_code_that_has_torch_run_operators_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / PACKAGE).write_bytes((artifact.folder / PACKAGE).read_bytes())
    with zipfile.ZipFile(tmp_path / PACKAGE, "a") as package:
        package.writestr("model/data/aotinductor/model/extern.json", "{}")
    other = unpublished(
        tmp_path, name="x", version="1", graph=PACKAGE, signature=SIGNATURE, engine="aot", precision="fp32"
    )
    with pytest.raises(ArtifactRejected, match="has operators that its compiled code has torch run"):
        load(other, threads=1)


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / PACKAGE).write_bytes(b"no package")
    broken = unpublished(
        tmp_path, name="x", version="1", graph=PACKAGE, signature=SIGNATURE, engine="aot", precision="fp32"
    )
    with pytest.raises(ArtifactRejected, match=r"'model.pt2' of 'x/1' is no package of AOTInductor"):
        load(broken, threads=1)


def test_without_torch_it_says_what_to_install(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineUnavailable, match=r"'aot' unavailable: .*install with: pip install .head"):
        load(artifact, threads=1)
