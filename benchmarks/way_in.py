"""One client, one small tensor: what the way to the engine costs over a bare echo behind the same HAProxy."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.figures import Figure, arguments, finish, middle
from deployments.load import closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import serving
from engines.artifact import Repository
from headrace.config import parse_config
from headrace.tensors import Signature, TensorSpec

MODEL = "double"
SIGNATURE = Signature(
    (TensorSpec("x", "FP32", ("batch", "length")),), (TensorSpec("y", "FP32", ("batch", "length")),)
)


class Echo:
    async def __call__(self, request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")


def main() -> int:
    options = arguments(__doc__)
    requests, rounds = (200, 2) if options.quick else (2000, 9)
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder))
        ours, echo = measure(Path(folder), requests, rounds)
    figures = [
        Figure("echo, one client, P50", middle(echo), "ms"),
        Figure("Headrace, one client, P50", middle(ours), "ms"),
        Figure(
            "Headrace / echo, P50",
            middle([one / other for one, other in zip(ours, echo, strict=True)]),
            "ratio",
            "<= 1.5",
        ),
    ]
    return finish(figures, options.json)


def publish(root: Path, name: str = MODEL) -> None:
    """A model that costs nothing: twice its input."""
    given, result = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length"]) for name in ("x", "y")
    )
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], name, [given], [result], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    Repository(root).publish(
        name, "1", {"model.onnx": model.SerializeToString()}, graph="model.onnx", signature=SIGNATURE
    )


def measure(root: Path, requests: int, rounds: int) -> tuple[list[float], list[float]]:
    """P50 of each round, in turns, ours and the echo's."""
    (port,) = free_ports(1)
    x = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 16)
    body = infer_request("headrace", MODEL, {"x": x})
    echoed = body.replace(f"POST /v2/models/{MODEL}/infer ".encode(), b"POST /echo ", 1)
    config = parse_config(
        {
            "repository": str(root),
            "gateways": 1,
            "http": {"port": port},
            "cache": {"enabled": False},
            "models": {MODEL: {}},
        }
    )
    ours: list[float] = []
    echo: list[float] = []
    deployment: Any = serve.deployment(max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0})(Echo)
    with serving(config):
        serve.run(deployment.bind(), name="echo", route_prefix="/echo")
        for number in range(rounds + 1):
            for kept, request in ((ours, body), (echo, echoed)):
                load = asyncio.run(closed_loop("127.0.0.1", port, [request] * requests, 1))
                if load.num_failed:
                    raise SystemExit(f"{load.num_failed} requests failed: the times would mean nothing")
                if number:  # the first round warms up
                    kept.append(load.percentile_ms(50))
    return ours, echo


if __name__ == "__main__":
    raise SystemExit(main())
