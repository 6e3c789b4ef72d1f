"""LitServe with raw bytes both ways. No annotations from the future: LitServe reads them as types."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import litserve
from fastapi import Depends, Request, Response
from raw_model import RawModel, Wire

BATCH_TIMEOUT_S = 0.005  # LitServe spins when this is zero


async def raw_body(request: Request) -> bytes:
    return await request.body()


class Model(litserve.LitAPI):  # type: ignore[misc]  # litserve lives in an environment of its own
    def setup(self, device: str) -> None:
        self.model = RawModel(Wire.from_environment())

    def decode_request(self, request: Annotated[bytes, Depends(raw_body)]) -> bytes:
        return request

    def batch(self, inputs: Sequence[bytes]) -> Sequence[bytes]:
        return inputs

    def predict(self, x: bytes | Sequence[bytes]) -> list[bytes]:
        answers: list[bytes] = self.model.answer([x] if isinstance(x, bytes) else x)
        return answers

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes | list[bytes]) -> Response:
        return Response(output if isinstance(output, bytes) else output[0])


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    batch = Wire.from_environment().batch
    batching = {"max_batch_size": batch, "batch_timeout": BATCH_TIMEOUT_S} if batch > 1 else {}
    os.chdir(os.environ["TMPDIR"])  # it writes files where it stands
    server = litserve.LitServer(
        Model(**batching), accelerator="cpu", workers_per_device=workers, timeout=False, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=port,
        log_level="error",
        generate_client_file=False,
        access_log=False,
    )
