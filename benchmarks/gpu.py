"""What a GPU gives: eager torch against compiled packages and CUDA graphs, copies that overlap, and the
card's own ceilings. For machines with a GPU, pycuda and a torch for CUDA; the table goes into docs/gpu.md.

    python -m benchmarks.gpu --only ceilings | engines | overlap | largest
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import Figure, arguments, finish, middle
from engines.cuda import CudaGpu
from engines.driver import find_driver
from engines.gpu_runner import DEPTH, GpuRunner
from headrace.errors import EngineUnavailable

if TYPE_CHECKING:
    import torch

PARTS = ("ceilings", "engines", "overlap", "largest")
IMAGE = (3, 224, 224)
LARGEST = 256  # images
_MATRIX = 8192
_BYTES = 1 << 30
_NARROW, _WIDE, _LAYERS, _ROWS = 64, 4096, 16, 8192  # of the stack that is all products
_COPIES = (256, 1 << 16)  # rows and columns of a copy-heavy batch, FP32: 64 MiB


def main() -> int:
    options = arguments(__doc__, PARTS)
    try:
        device = find_driver().devices[0]
    except EngineUnavailable as err:
        print(err, file=sys.stderr)
        return 3
    only = options.only or PARTS
    turns = 3 if options.quick else 30
    figures: list[Figure] = []
    if "ceilings" in only:
        figures += ceilings(turns)
    if "engines" in only:
        figures += engines(turns)
    if "overlap" in only:
        figures += overlap(turns)
    if "largest" in only:
        figures += largest(turns)
    print(f"{device.name}, compute capability {device.architecture}")
    return finish(figures, options.json)


def timed(work: Callable[[], object], turns: int, times: int = 10) -> float:
    """Milliseconds of one call, by the GPU's own clock: the median of some turns of several calls."""
    import torch

    found = []
    for turn in range(turns + 3):
        began, ended = (_untyped(torch.cuda.Event)(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(times):
            work()
        ended.record()
        ended.synchronize()
        if turn >= 3:  # the first ones warm up
            found.append(began.elapsed_time(ended) / times)
    return middle(found)


def ceilings(turns: int) -> Iterator[Figure]:
    import torch

    source, target = (torch.randint(0, 255, (_BYTES,), dtype=torch.uint8, device="cuda") for _ in range(2))
    yield Figure("copy on the card", 2 * _BYTES / timed(lambda: target.copy_(source), turns) / 1e6, "GB/s")
    pinned = torch.empty(_BYTES, dtype=torch.uint8, pin_memory=True)
    up = timed(lambda: target.copy_(pinned, non_blocking=True), turns, 3)
    down = timed(lambda: pinned.copy_(target, non_blocking=True), turns, 3)
    yield Figure("copy to the card", _BYTES / up / 1e6, "GB/s")
    yield Figure("copy from the card", _BYTES / down / 1e6, "GB/s")
    for name, dtype in (("FP16", torch.float16), ("BF16", torch.bfloat16)):
        yield Figure(f"product of matrices in {name}", products(dtype, turns), "TFLOP/s")


def products(dtype: torch.dtype, turns: int) -> float:
    """TFLOP/s of the card's own product of large matrices."""
    import torch

    a, b = (torch.randn(_MATRIX, _MATRIX, device="cuda", dtype=dtype) for _ in range(2))
    return 2 * _MATRIX**3 / timed(lambda: a @ b, turns) / 1e9


def engines(turns: int) -> Iterator[Figure]:
    """A convnet of ResNet18's size: one image, and as many as the largest batch has."""
    import torch

    from examples.resnet.network import ResNet18

    for name, dtype in (("FP16", torch.float16), ("BF16", torch.bfloat16)):
        model = ResNet18().eval().to("cuda", dtype)
        for rows in (1, LARGEST):
            x = torch.randn(rows, *IMAGE, device="cuda", dtype=dtype)
            with torch.no_grad():
                eager = timed(lambda: model(x), turns)  # noqa: B023
                graph = timed(_graph(lambda: model(x)).replay, turns)  # noqa: B023
                package = _package(model, x)
                compiled = timed(lambda: package(x), turns)  # noqa: B023
                both = timed(_graph(lambda: package(x)).replay, turns)  # noqa: B023
            told = f"{rows} image{'s' * (rows > 1)} in {name}"
            yield Figure(f"{told}: eager", eager, "ms")
            yield Figure(f"{told}: eager / graph", eager / graph, "ratio", ">= 1.5" if rows == 1 else "")
            yield Figure(f"{told}: eager / AOTInductor", eager / compiled, "ratio")
            yield Figure(f"{told}: eager / AOTInductor in a graph", eager / both, "ratio")


def _untyped(maker: Any) -> Any:
    """Without the types that torch has not given it."""
    return maker


def _graph(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    import torch

    side = _untyped(torch.cuda.Stream)()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _package(model: torch.nn.Module, x: torch.Tensor) -> Callable[[torch.Tensor], object]:
    import torch
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    with tempfile.TemporaryDirectory() as folder:
        program = torch.export.export(model, (x,))
        path = aoti_compile_and_package(program, package_path=str(Path(folder) / "model.pt2"))
        loaded: Callable[[torch.Tensor], object] = aoti_load_package(path, run_single_threaded=True)
    return loaded


def overlap(turns: int) -> Iterator[Figure]:
    """Our own runner: batches of which the copies take the time, one at a time and two."""
    from tests.engines.torch_kernel import Doubling

    batch = np.random.default_rng(0).standard_normal(_COPIES).astype(np.float32)

    def ms(depth: int) -> float:
        runner = GpuRunner(CudaGpu(), Doubling(_COPIES), depth=depth)
        runner.start()
        found = []
        with ThreadPoolExecutor(depth) as pool:
            for _ in range(turns + 1):
                began = time.perf_counter()
                list(pool.map(lambda _: runner.run({"x": batch}, ("y",)), range(10)))
                found.append((time.perf_counter() - began) * 100)
        runner.close()
        return middle(found[1:])

    serial, both = ms(1), ms(2)
    yield Figure("64 MiB up and down, one batch at a time", serial, "ms")
    yield Figure("two on the way", both, "ms")
    yield Figure("one at a time / two on the way", serial / both, "ratio", ">= 1.25")


def largest(turns: int) -> Iterator[Figure]:
    """A stack of square layers in our own engine, copies, graphs and host included, against the card's
    product of matrices."""
    import torch

    from engines.artifact import unpublished
    from engines.load import load
    from headrace.tensors import Signature, TensorSpec
    from optimize.compiled import PACKAGE, compile_module

    layers: list[torch.nn.Module] = [torch.nn.Linear(_NARROW, _WIDE)]
    for _ in range(_LAYERS):
        layers += [torch.nn.ReLU(), torch.nn.Linear(_WIDE, _WIDE)]
    layers.append(torch.nn.Linear(_WIDE, _NARROW))

    class Stack(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(*layers)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layers(x)
            return found

    batch = {"x": np.random.default_rng(0).standard_normal((_ROWS, _NARROW)).astype(np.float32)}
    x, y = (TensorSpec(name, "FP32", ("batch", _NARROW)) for name in ("x", "y"))
    with tempfile.TemporaryDirectory() as folder:
        example = {"x": batch["x"][:2]}
        compile_module(Stack(), example, {"x": {0: "batch"}}, "bf16", Path(folder, PACKAGE), "cuda")
        engine = load(
            unpublished(
                Path(folder),
                name="stack",
                version="1",
                graph=PACKAGE,
                signature=Signature((x,), (y,)),
                engine="aot-cuda",
                precision="bf16",
            ),
            threads=1,
            max_batch=_ROWS,
        )
    found = []
    with ThreadPoolExecutor(DEPTH) as pool:
        for _ in range(turns + 1):
            began = time.perf_counter()
            list(pool.map(lambda _: engine.run(batch), range(10)))
            found.append((time.perf_counter() - began) * 100)
    engine.close()
    flop = 2 * _ROWS * (_LAYERS * _WIDE**2 + 2 * _WIDE * _NARROW)
    rate, ceiling = flop / middle(found[1:]) / 1e9, products(torch.bfloat16, turns)
    yield Figure(f"{_ROWS} rows through {_LAYERS} layers in BF16", rate, "TFLOP/s")
    yield Figure("of the card's product of matrices", rate / ceiling, "share", ">= 0.9")


if __name__ == "__main__":
    raise SystemExit(main())
