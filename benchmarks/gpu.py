"""What a GPU gives: eager torch against compiled packages and CUDA graphs, copies that overlap, and the
card's own ceilings. For machines with a GPU, pycuda and a torch for CUDA; the table goes into docs/gpu.md.

    python -m benchmarks.gpu --only ceilings | engines | overlap
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import Figure, arguments, finish, middle
from engines.cuda import CudaGpu
from engines.driver import find_driver
from engines.gpu_runner import GpuRunner
from headrace.errors import EngineUnavailable

if TYPE_CHECKING:
    import torch

PARTS = ("ceilings", "engines", "overlap")
IMAGE = (3, 224, 224)
LARGEST = 256  # images
_MATRIX = 8192
_BYTES = 1 << 30
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
        a, b = (torch.randn(_MATRIX, _MATRIX, device="cuda", dtype=dtype) for _ in range(2))
        took_ms = timed(lambda a=a, b=b: a @ b, turns)  # type: ignore[misc]
        yield Figure(f"product of matrices in {name}", 2 * _MATRIX**3 / took_ms / 1e9, "TFLOP/s")


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
        for _ in range(turns + 1):
            began = time.perf_counter()
            for future in [runner.submit({"x": batch}, ("y",)) for _ in range(10)]:
                future.result()
            found.append((time.perf_counter() - began) * 100)
        runner.close()
        return middle(found[1:])

    serial, both = ms(1), ms(2)
    yield Figure("64 MiB up and down, one batch at a time", serial, "ms")
    yield Figure("two on the way", both, "ms")
    yield Figure("one at a time / two on the way", serial / both, "ratio", ">= 1.25")


if __name__ == "__main__":
    raise SystemExit(main())
