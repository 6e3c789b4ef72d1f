"""The plain Serve program to compare with: `@serve.batch`, padded to the longest, one ONNX session a replica.

It gets the cheapest wire there is, raw bytes both ways, and limits on concurrency that never bind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from headrace.tensors import Array

MAX_BATCH = 8


class Plain:
    """Token ids in as raw INT64, the embedding out as raw FP32."""

    def __init__(self, graph: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @serve.batch(  # type: ignore[untyped-decorator]  # Ray is not typed strictly
        max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.01
    )
    async def embed(self, texts: list[Array]) -> list[bytes]:
        length = max(len(ids) for ids in texts)
        batch = np.zeros((len(texts), length), np.int64)
        mask = np.zeros_like(batch)
        for row, ids in enumerate(texts):
            batch[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        (embeddings,) = self._session.run(["embedding"], {"input_ids": batch, "attention_mask": mask})
        return [embedding.tobytes() for embedding in embeddings]

    async def __call__(self, request: Request) -> Response:
        ids = np.frombuffer(await request.body(), np.int64)
        return Response(await self.embed(ids), media_type="application/octet-stream")


def application(graph: bytes, *, replicas: int, threads: int) -> serve.Application:
    deployment: Any = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=1024,
        graceful_shutdown_timeout_s=5,
        ray_actor_options={"num_cpus": 1},
    )(Plain)
    return deployment.bind(graph, threads)


def request(ids: Array) -> bytes:
    body = ids.tobytes()
    return f"POST / HTTP/1.1\r\nhost: plain\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
