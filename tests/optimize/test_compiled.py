"""Target aot: a module compiled for this processor, measured and published like any other version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engines.artifact import Repository
from engines.load import load
from headrace.errors import ConfigRejected
from headrace.tensors import Array
from optimize import compiled, pipeline
from optimize.api import optimize
from optimize.compiled import can_compile, compile_module, why_not
from optimize.goals import Goals
from optimize.steps import Compile, QuantizeStatic
from tests import digits


def rows(count: int) -> list[dict[str, Array]]:
    return [{"x": image[None]} for image in digits.images()[0][:count]]


@pytest.mark.skipif(bool(why_not("aot")), reason=why_not("aot") or "-")
def test_a_compiled_module_is_a_version_and_int8_is_refused_for_it(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    report = optimize(
        digits.trained(),
        evaluate=digits.accuracy,
        calibration=rows(16),
        out=tmp_path / "digits",
        goals=Goals(max_drop=0.01),
        steps=[Compile(), QuantizeStatic()],
        targets=["aot"],
    )
    found, refused = report.candidates
    assert (found.status, found.engine, found.precision) == ("chosen", "aot", "fp32")
    assert (refused.status, refused.name) == ("refused", "int8-static")
    assert "no int8-static: INT8 runs in" in refused.reason
    engine = load(Repository(tmp_path).open("digits", found.version), threads=1)
    assert digits.accuracy(engine.run) >= 0.9
    engine.close()


def test_compile_is_no_step_for_engines_that_do_it_by_themselves(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigRejected, match="onnxruntime compiles by itself; compile is a step for targets aot and aot-cuda"
    ):
        optimize(
            digits.trained(),
            evaluate=digits.accuracy,
            calibration=rows(2),
            out=tmp_path / "digits",
            steps=[Compile()],
        )


def test_a_module_that_torch_cannot_export_is_refused(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(ConfigRejected, match=r"torch cannot compile the model: "):
        compile_module(
            Branching(),
            {"x": np.ones((2, 3), np.float32)},
            {"x": {0: "batch"}},
            "fp32",
            tmp_path / "model.pt2",
        )
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_the_target_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    assert "no C++ compiler (g++ or clang++ or c++); install g++" in why_not("aot")
    found = pipeline._missing(["onnxruntime", "aot"])
    assert list(found) == ["aot"]


@pytest.mark.parametrize(("precision", "flags", "told"), [("fp32", (), ""), ("bf16", ("amx_bf16",), "")])
def test_half_precision_needs_its_instructions(
    precision: str, flags: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "cpu_flags", lambda: flags)
    assert can_compile(precision, "aot") == told
    monkeypatch.setattr(compiled, "cpu_flags", lambda: ())
    assert "no BF16 arithmetic" in can_compile("bf16", "aot")
