"""Dynamic batching on and off, in the same server, for a small model whose calls cost more than its rows.

A recurrent network over 64 steps: each call goes through the steps one after another, so that eight rows take
little longer than one. 64 clients in a closed loop, in turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import uvloop
from onnx import TensorProto, helper, numpy_helper

from benchmarks.figures import Figure, arguments, finish, middle
from deployments.load import closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import serving
from engines.artifact import Repository
from headrace.config import Config, parse_config
from headrace.tensors import Signature, TensorSpec

HOST = "127.0.0.1"
MODEL = "recurrent"
STEPS, FEATURES, HIDDEN = 64, 32, 384
CLIENTS = 64
SIGNATURE = Signature(
    (TensorSpec("x", "FP32", ("batch", STEPS, FEATURES)),), (TensorSpec("y", "FP32", ("batch", HIDDEN)),)
)


def main() -> int:
    options = arguments(__doc__)
    requests, rounds = (300, 1) if options.quick else (3000, 5)
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder))
        on, off, rows = measure(Path(folder), requests, rounds)
    figures = [
        Figure("batching off", middle(off), "requests/s"),
        Figure("batching on", middle(on), "requests/s"),
        Figure("mean batch", middle(rows), "rows"),
        Figure("on / off", middle([a / b for a, b in zip(on, off, strict=True)]), "ratio", ">= 1.4"),
    ]
    return finish(figures, options.json)


def publish(root: Path) -> None:
    rng = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 12).astype(np.float32), name)

    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "w", "r", "b"], ["", "last"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["last", "first"], ["y"]),
    ]
    constants = [
        weight("w", 1, 3 * HIDDEN, FEATURES),
        weight("r", 1, 3 * HIDDEN, HIDDEN),
        weight("b", 1, 6 * HIDDEN),
        numpy_helper.from_array(np.array([0]), "first"),
    ]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", STEPS, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", HIDDEN])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    Repository(root).publish(
        MODEL, "1", {"model.onnx": model.SerializeToString()}, graph="model.onnx", signature=SIGNATURE
    )


def measure(root: Path, requests: int, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Requests/s with batching and without, and the mean batch, of each round."""
    (port,) = free_ports(1)
    rng = np.random.default_rng(6)
    bodies = [
        infer_request(HOST, MODEL, {"x": rng.standard_normal((1, STEPS, FEATURES)).astype(np.float32)})
        for _ in range(requests)
    ]
    on: list[float] = []
    off: list[float] = []
    rows: list[float] = []
    with serving(_config(root, port, 1)) as server:
        for _ in range(rounds):
            for kept, max_batch in ((off, 1), (on, 16)):
                server.update(_config(root, port, max_batch))
                _ask(port, bodies[:200])
                rate, batch = _ask(port, bodies)
                kept.append(rate)
                if max_batch > 1:
                    rows.append(batch)
    return on, off, rows


def _config(root: Path, port: int, max_batch: int) -> Config:
    return parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "cache": {"enabled": False},
            "models": {MODEL: {"batching": {"max_batch": max_batch}}},
        }
    )


def _ask(port: int, bodies: Sequence[bytes]) -> tuple[float, float]:
    load = uvloop.run(closed_loop(HOST, port, bodies, CLIENTS))
    if load.num_failed:
        raise SystemExit(f"{load.num_failed} requests failed: the rate would mean nothing")
    return load.per_second, load.mean_batch()


if __name__ == "__main__":
    raise SystemExit(main())
