"""Torch modules compiled ahead of time: the kernels that AOTInductor writes for this processor or GPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.cpu import cpu_flags
from engines.driver import find_driver
from headrace.errors import ConfigRejected, EngineUnavailable
from headrace.tensors import TensorMap
from optimize.export import DynamicShapes, first_line, quiet, tensors_in, widened
from optimize.precision import NEEDED

if TYPE_CHECKING:
    import torch

PACKAGE = "model.pt2"
DEVICES = {"aot": "cpu", "aot-cuda": "cuda"}  # by engine
_COMPILERS = ("g++", "clang++", "c++")
# Threads are chosen when it runs, not when it is compiled; weights are laid out as the kernels want them.
_SETTINGS: Mapping[str, Any] = {"cpp.dynamic_threads": True, "freezing": True}
_BF16 = 8  # the first compute capability with BF16


def why_not(engine: str) -> str:
    """Nothing when modules can be compiled here for an engine, else what is missing."""
    try:
        import torch
    except ImportError:
        return "torch is not installed; install with: pip install 'headrace[optimize]'"
    if not any(map(shutil.which, _COMPILERS)):
        return f"there is no C++ compiler ({' or '.join(_COMPILERS)}); install g++"
    if DEVICES[engine] == "cpu":
        return ""
    try:
        find_driver()
    except EngineUnavailable as err:
        return str(err)
    return "" if torch.cuda.is_available() else f"torch {torch.__version__} is not built for this GPU's CUDA"


def can_compile(precision: str, engine: str) -> str:
    """Nothing when kernels in this precision are faster here than in FP32, else why not."""
    if precision == "fp32":
        return ""
    if DEVICES[engine] == "cuda":
        device = find_driver().devices[0]
        is_old = precision == "bf16" and float(device.architecture) < _BF16
        return f"{device.name} has no BF16 arithmetic; take fp16" if is_old else ""
    if NEEDED[precision].intersection(cpu_flags()):
        return ""
    return f"this CPU has no {precision.upper()} arithmetic ({' or '.join(sorted(NEEDED[precision]))})"


def compile_module(
    module: torch.nn.Module,
    example: TensorMap,
    dynamic_shapes: DynamicShapes,
    precision: str,
    target: Path,
    device: str = "cpu",
) -> Path:
    """`target`, a package that takes a dict of the module's inputs and gives its outputs in order, in the
    types they have in FP32. ConfigRejected when the module cannot be exported or compiled."""
    import torch
    from torch._inductor import aoti_compile_and_package

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    given = {
        name: torch.tensor(array, device=device)
        for name, array in widened(example, dynamic_shapes, 2).items()
    }
    dims: dict[str, Any] = {}
    shapes = {
        name: {
            axis: dims.setdefault(dim, torch.export.Dim(dim))
            for axis, dim in dynamic_shapes.get(name, {}).items()
        }
        for name in given
    }
    computed = _in(module.eval().to(device), dtype)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(computed, (given,), dynamic_shapes=(shapes,))
            aoti_compile_and_package(program, package_path=str(target), inductor_configs=dict(_SETTINGS))
    except Exception as err:
        target.unlink(missing_ok=True)
        reason = f"{type(err).__name__}: {first_line(err)}"
        raise ConfigRejected(f"torch cannot compile the model: {reason}") from err
    return target


def _in(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """The module computed in this type, between inputs and outputs of the types they had."""
    import torch

    class Computed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module.to(dtype)

        def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
            cast = {
                name: tensor.to(dtype) if tensor.is_floating_point() else tensor
                for name, tensor in inputs.items()
            }
            return tuple(
                tensor.float() if tensor.is_floating_point() else tensor
                for tensor in tensors_in(self.module(**cast))
            )

    return Computed()
