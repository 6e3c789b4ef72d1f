"""What an answer tells HAProxy, which takes it out again: looked at before it gets there."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from deployments.accounts import Accounts
from deployments.door import LIMIT_HEADER, Door
from deployments.http import HttpApp
from deployments.load import infer_request
from deployments.logs import RequestLog
from headrace.config import LimitsConfig, LogsConfig
from headrace.errors import NotFound
from headrace.requests import InferRequest, InferResponse
from tests.deployments.listening import listening

REQUEST = infer_request("test", "model", {"x": np.zeros((1, 3), np.float32)})


class OneModel:
    """A gateway of which only the door counts: two seconds of patience, a tenth for each request."""

    def __init__(self) -> None:
        self.door = Door(gateways=1, floor=2, usual_s=lambda: 0.1)
        self.door.came(0.0, 2.0)
        self.door.left()
        self.refused: list[int] = []
        self.control = self.purge_model = None
        self.accounts = Accounts(None, RequestLog(LogsConfig(requests="none"), None, {}))

    def door_of(self, model: str, version: str | None = None) -> Door:
        if model != "model":
            raise NotFound("no such model")
        return self.door

    def turned_away(self, model: str, version: str | None, requests: int) -> None:
        self.refused.append(requests)

    async def answer(self, request: InferRequest) -> InferResponse:
        self.door_of(request.model)
        return InferResponse("model", "1", request.inputs)

    def telling(self, *_: object) -> AbstractContextManager[None]:
        return nullcontext()

    def answered(self, *_: object) -> None:
        return


async def exchange(port: int, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.2)
    answer = await asyncio.wait_for(reader.read(65536), 5.0)
    writer.close()
    return answer


async def test_a_body_on_its_way_is_told_with_the_answers_of_others_until_it_is_there() -> None:
    app = HttpApp(OneModel(), LimitsConfig())  # type: ignore[arg-type]
    async with listening(app) as port:
        slow = asyncio.create_task(exchange(port, REQUEST[:-4], REQUEST[-4:]))
        await asyncio.sleep(0.1)
        assert f"{LIMIT_HEADER}: 21\r\n".encode() in await exchange(port, REQUEST)
        assert (await slow).startswith(b"HTTP/1.1 200")
        assert f"{LIMIT_HEADER}: 20\r\n".encode() in await exchange(port, REQUEST)


async def test_a_slow_body_for_no_model_is_told_so_at_its_end() -> None:
    app = HttpApp(OneModel(), LimitsConfig())  # type: ignore[arg-type]
    unknown = REQUEST.replace(b"/models/model/", b"/models/nobody/")
    async with listening(app) as port:
        assert (await exchange(port, unknown[:-4], unknown[-4:])).startswith(b"HTTP/1.1 404")


async def test_what_haproxy_refused_is_heard_of_and_bounded() -> None:
    gateway = OneModel()
    app = HttpApp(gateway, LimitsConfig())  # type: ignore[arg-type]
    async with listening(app) as port:
        for told in ("17", "99999999", "-1", "many"):
            head = f"headrace-refused: {told}\r\n\r\n".encode()
            assert (await exchange(port, REQUEST.replace(b"\r\n\r\n", b"\r\n" + head, 1))).startswith(
                b"HTTP/1.1 200"
            )
    assert gateway.refused == [17, 10_000, 0, 0]
