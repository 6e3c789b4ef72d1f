"""Modules compiled for a GPU: refused where they cannot run; run where there is one (`pytest -m gpu`)."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from engines import aot_gpu
from engines.aot_package import Made, made_for
from engines.artifact import Artifact
from engines.driver import Device, Driver
from engines.load import load
from headrace.errors import ArtifactRejected, EngineUnavailable
from optimize.compiled import can_compile, why_not
from tests.engines.modules import compiled, inputs, wanted
from tests.engines.test_cuda import why_not as why_no_gpu

needs_compiler = pytest.mark.skipif(bool(why_not("aot")), reason=why_not("aot") or "-")


@pytest.fixture(scope="module")
def of_a_cpu(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compiled(tmp_path_factory.mktemp("compiled"), "aot-cuda")


def there_is(monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    driver = Driver("13.0", (Device("GPU on paper", architecture, 8 << 30),))
    monkeypatch.setattr(aot_gpu, "find_driver", lambda: driver)


@needs_compiler
def test_without_a_gpu_it_says_so(of_a_cpu: Artifact) -> None:
    if not why_no_gpu():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineUnavailable, match="GPU"):
        load(of_a_cpu, threads=1)
    assert why_not("aot-cuda")


@needs_compiler
def test_a_package_for_another_device_is_refused_with_both(
    of_a_cpu: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made_for(of_a_cpu) == Made("cpu", "")
    there_is(monkeypatch, "9.0")
    with pytest.raises(EngineUnavailable, match=r"compiled for a CPU, and here is GPU on paper \(9.0\): com"):
        load(of_a_cpu, threads=1)
    monkeypatch.setattr(aot_gpu, "made_for", lambda _: Made("cuda", "8.9"))
    with pytest.raises(EngineUnavailable, match=r"for a GPU of compute capability 8\.9, and here is GPU on"):
        load(of_a_cpu, threads=1)


@needs_compiler
def test_a_torch_without_cuda_is_named(of_a_cpu: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    there_is(monkeypatch, "9.0")
    monkeypatch.setattr(aot_gpu, "made_for", lambda _: Made("cuda", "9.0"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=r"'aot-cuda' unavailable: torch \S+ is built without CUDA"):
        load(of_a_cpu, threads=1)


@needs_compiler
def test_a_package_for_a_gpu_is_no_version_for_the_cpu(
    of_a_cpu: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines import aot

    monkeypatch.setattr(aot, "made_for", lambda _: Made("cuda", "9.0"))
    with pytest.raises(EngineUnavailable, match=r"compiled for a GPU of compute capability 9\.0: publish it"):
        aot.AotEngine(of_a_cpu, 1)


@needs_compiler
def test_without_torch_it_says_what_to_install(of_a_cpu: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EngineUnavailable, match=r"'aot-cuda' unavailable: .*'headrace\[optimize,gpu\]'"):
        load(of_a_cpu, threads=1)
    assert "torch is not installed" in why_not("aot-cuda")


def test_bf16_needs_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from optimize import compiled as compiling

    for architecture, told in (("7.5", "GPU on paper has no BF16 arithmetic; take fp16"), ("12.0", "")):
        driver = Driver("13.0", (Device("GPU on paper", architecture, 8 << 30),))
        monkeypatch.setattr(compiling, "find_driver", lambda driver=driver: driver)
        assert can_compile("bf16", "aot-cuda") == told
        assert can_compile("fp16", "aot-cuda") == ""


@needs_compiler
def test_damaged_packages_are_refused(tmp_path: Path) -> None:
    import zipfile

    from engines.artifact import unpublished
    from tests.engines.modules import SIGNATURE

    for number, told in enumerate((b"{}", b"[]", b"no JSON", b'{"AOTI_DEVICE_KEY": "cpu"}')):
        folder = tmp_path / str(number)
        folder.mkdir()
        with zipfile.ZipFile(folder / "model.pt2", "w") as package:
            package.writestr("x/data/aotinductor/model/a.wrapper_metadata.json", told)
        parts = {"graph": "model.pt2", "signature": SIGNATURE, "engine": "aot", "precision": "fp32"}
        broken = unpublished(folder, name="x", version="1", **parts)  # type: ignore[arg-type]
        with pytest.raises(ArtifactRejected, match=r"'model.pt2' of 'x/1' is no package of AOTInductor"):
            load(broken, threads=1)
    with zipfile.ZipFile(folder / "model.pt2", "w") as package:
        told = b'{"AOTI_DEVICE_KEY": "cpu", "AOTI_COMPUTE_CAPABILITY": ""}'
        package.writestr("x/data/aotinductor/model/a.wrapper_metadata.json", told)
    empty = unpublished(folder, name="x", version="1", **parts)  # type: ignore[arg-type]
    with pytest.raises(ArtifactRejected, match="cannot be loaded by torch"):
        load(empty, threads=1)


@pytest.fixture(scope="module")
def of_a_gpu(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    if reason := why_no_gpu():
        pytest.skip(reason)
    return compiled(tmp_path_factory.mktemp("compiled"), "aot-cuda", "cuda")


@pytest.mark.gpu
def test_every_shape_is_answered_plain_and_by_graphs(of_a_gpu: Artifact) -> None:
    engine = load(of_a_gpu, threads=1, max_batch=8)
    engine.warm_up()
    batches = [inputs(1 + n % 8, 1 + (7 * n) % 64, n) for n in range(40)] * 6
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.run, batches))
    for batch, answer in zip(batches, found, strict=True):
        np.testing.assert_allclose(answer["sum"], wanted(batch), rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(answer["same"], batch["ids"])
    engine.close()


@pytest.mark.gpu
def test_nothing_is_left_on_the_gpu(of_a_gpu: Artifact) -> None:
    free = []
    for _ in range(4):
        engine = load(of_a_gpu, threads=1, max_batch=8)
        for n in range(20):
            engine.run(inputs(1 + n % 3, 5, n))
        engine.close()
        free.append(torch.cuda.mem_get_info()[0])
    assert free[-1] >= free[1] - (4 << 20)
