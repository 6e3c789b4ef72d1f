"""BentoML with raw bytes both ways; batching is its own adaptive one."""

from __future__ import annotations

import os
from typing import Any

import bentoml
from _bentoml_sdk.io_models import IORootModel
from raw_model import RawModel, Wire
from starlette.responses import Response

WIRE = Wire.from_environment()
# Both bounds are far above any latency here: with a lower one it drops requests.
MAX_LATENCY_MS = 60_000
TIMEOUT_S = 600


class RawRows(IORootModel[list[bytes]]):  # type: ignore[misc]  # bentoml lives in an environment of its own
    """A list with the one row that a request holds: batches are made by joining such lists."""

    @classmethod
    async def from_http_request(cls, request: Any, serde: Any) -> RawRows:
        return cls([await request.body()])

    @classmethod
    async def to_http_response(cls, obj: list[bytes], serde: Any) -> Response:
        return Response(obj[0])


RawRows.__root_input__ = True


@bentoml.service(
    workers=int(os.environ["BENCHMARK_WORKERS"]),
    threads=1,
    traffic={"timeout": TIMEOUT_S},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Model:
    def __init__(self) -> None:
        self.model = RawModel(WIRE)

    @bentoml.api(  # type: ignore[untyped-decorator]
        route="/predict",
        input_spec=RawRows,
        output_spec=RawRows,
        batchable=WIRE.batch > 1,
        max_batch_size=max(2, WIRE.batch),  # no less is allowed, even when it is not used
        max_latency_ms=MAX_LATENCY_MS,
    )
    def predict(self, rows: list[bytes]) -> list[bytes]:
        answers: list[bytes] = self.model.answer(rows)
        return answers
