"""The gateway's HTTP side: raw ASGI, the Open Inference Protocol in, `Gateway.answer`, bytes out."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deployments import admin
from deployments.admin import Admin
from deployments.arguments import Headers
from deployments.caller import CAME_HEADER, Caller, ClientLeftError, Receive, seconds_since
from deployments.door import REFUSED_HEADER, num_refused
from deployments.feedback import ID_HEADER
from headrace import __version__
from headrace.config import LimitsConfig
from headrace.errors import HeadraceError, NotFound, Overloaded, SlowBody, TooLarge, Unauthorized
from headrace.requests import InferRequest, InferResponse, Timings
from monitoring.stages import stages_of
from protocol import compression, feedback, paths, rest
from protocol.limits import Limits, decompress

if TYPE_CHECKING:
    from deployments.gateway import Gateway

_log = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
LARGE_BYTES = 1 << 20  # JSON of this size takes some ten milliseconds
LARGE_COMPRESSED_BYTES = 64 << 10  # compressing this much takes about a millisecond
SLOW_VIEWER_S = 30.0  # without taking anything of a stream
_READ_HEADERS = frozenset(
    {
        CAME_HEADER.encode(),
        REFUSED_HEADER.encode(),
        b"accept-encoding",
        b"content-encoding",
        b"content-length",
        rest.HEADER_LENGTH.encode(),
    }
)
_JSON = {"content-type": "application/json"}
# Status, headers and the parts of the body.
Response = tuple[int, Mapping[str, str], list[bytes | memoryview]]
Stream = tuple[int, Mapping[str, str], AsyncGenerator[bytes]]  # they come one by one


class HttpApp:
    """An ASGI application; every caller's mistake is a 4xx with {"error": why and how to mend it}."""

    def __init__(self, gateway: Gateway, limits: LimitsConfig, headers: Headers | None = None) -> None:
        self._gateway = gateway
        self._limits = Limits.from_config(limits)
        self._headers = headers or Headers()
        self._admin = Admin(gateway.control, gateway.purge_model)
        self._read_headers = _READ_HEADERS | {name.encode() for name in self._headers.names}
        self._body_timeout_s = limits.body_timeout_s

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        caller = Caller(receive, self._body_timeout_s)
        try:
            status, headers, parts = await self._respond(scope, caller)
            if isinstance(parts, AsyncGenerator):
                await _stream(send, status, headers, parts)
                return
        except ClientLeftError:
            return
        except HeadraceError as err:
            status, headers, parts = _error(err)
        except asyncio.CancelledError:
            if isinstance(caller.failure, HeadraceError):
                self._gateway.count_error(caller.failure)
                status, headers, parts = _error(caller.failure)
            elif caller.failure is not None:
                return  # the caller left: Serve need not hear of it as a failure
            else:
                raise
        except Exception:
            _log.exception("a request failed")
            status, headers, parts = _error(
                HeadraceError("the server failed on this request; its log says why")
            )
        finally:
            caller.close()
        if caller.asked is not None:
            headers = {**headers, **self._gateway.accounts.headers(caller.asked, status)}
        await _send(send, status, headers, parts)
        if caller.when_sent is not None:
            caller.when_sent()

    async def _respond(self, scope: dict[str, Any], caller: Caller) -> Response | Stream:
        raw_path = scope.get("raw_path") or scope["path"].encode()
        try:
            route = paths.parse_path(scope["method"], raw_path.decode("ascii", "replace"))
        except HeadraceError as err:
            self._gateway.count_error(err)
            raise
        match route.kind:
            case "infer":
                return await self._infer(route, scope, caller)
            case "rollout" | "history" | "cache":
                return await self._asked(route, scope, caller)
            case "feedback":
                return await self._feedback(route, scope, caller)
            case "page" | "events" | "report":
                return await self._shown(route, scope, caller)
            case "figures":
                self._gateway.dashboard.check()
                body = await self._gateway.figures()
            case "live" | "ready":
                body = rest.health()
            case "model_ready":
                self._gateway.find(route.model, route.version)
                body = rest.health()
            case "model":
                served = self._gateway.find(route.model, route.version)
                versions = self._gateway.versions(route.model)
                body = rest.model_metadata(served.name, versions, served.engine, served.signature)
            case _:
                body = rest.server_metadata("headrace", __version__)
        plain: Response = (200, _JSON, [body])
        return plain

    async def _infer(self, route: paths.Route, scope: dict[str, Any], caller: Caller) -> Response:
        headers = self._headers_of(scope)
        if came := headers.get(CAME_HEADER):
            caller.began -= seconds_since(came, time.time())
        caller.asked = self._gateway.accounts.asked("http", scope["headers"], caller.began)
        unread = InferRequest(route.model, {}, route.version, asked=caller.asked)
        with self._gateway.telling(unread, route.version or ""):
            declared = headers.get("content-length", "")
            if declared.isdecimal() and int(declared) > self._limits.body_bytes:
                raise TooLarge(f"the body has {declared} bytes; the limit is {self._limits.body_bytes}")
            if REFUSED_HEADER in headers:
                self._turned_away(route, num_refused(headers[REFUSED_HEADER]))
            with nullcontext() if caller.has_body else self._coming(route):
                body = await caller.body(self._limits.body_bytes)
            read_at = time.monotonic()
            request, reply = await self._decode(route, headers, body)
            request = self._headers.stamp(request, headers)
            if caller.asked is not None:
                request = replace(request, asked=caller.asked)
            decoded_at = time.monotonic()
        try:
            response = await self._gateway.answer(request)
        except Overloaded as err:
            status, error_headers, parts = _error(err)
            return status, {**error_headers, **self._told_at_the_door(request)}, parts
        answered_at = time.monotonic()
        if response.id != request.id:  # it had none
            reply = replace(reply, id=response.id)
        encoding = compression.accepted(headers.get("accept-encoding"))
        num_bytes = sum(array.nbytes for array in response.outputs.values())
        with self._gateway.telling(request, response.version):
            if num_bytes > (LARGE_BYTES if encoding is None else LARGE_COMPRESSED_BYTES):
                answer_headers, parts = await asyncio.to_thread(_encode, response, reply, encoding)
            else:
                answer_headers, parts = _encode(response, reply, encoding)
        answer_headers |= _timing_headers(response.timings) | self._told_at_the_door(request)
        if response.id != request.id:
            answer_headers[ID_HEADER] = response.id
        if response.variant:
            answer_headers |= {"headrace-variant": response.variant, "headrace-version": response.version}
        encoded_at = time.monotonic()

        def when_sent() -> None:
            sent_at = time.monotonic()
            spent = stages_of(
                response.timings,
                answered_at - decoded_at,
                wire_s=read_at - caller.began + sent_at - encoded_at,
                decode_s=decoded_at - read_at,
                encode_s=encoded_at - answered_at,
            )
            self._gateway.answered(request, response, sent_at - caller.began, spent)

        caller.when_sent = when_sent
        return 200, answer_headers, parts

    async def _shown(self, route: paths.Route, scope: dict[str, Any], caller: Caller) -> Response | Stream:
        await caller.body(0)  # from then on it is noticed when the viewer leaves
        try:
            if route.kind == "events":
                return self._gateway.dashboard.events(caller.is_stopping)
            if route.kind == "page":
                return self._gateway.dashboard.file(route.file, _header(scope, b"if-none-match"))
            return await asyncio.to_thread(self._gateway.dashboard.report, route.model, route.version or "")
        except HeadraceError as err:
            self._gateway.count_error(err)
            raise

    async def _asked(self, route: paths.Route, scope: dict[str, Any], caller: Caller) -> Response:
        """With the admin token."""
        try:
            self._admin.check(_header(scope, b"authorization"))
            if route.kind == "cache":
                told = await self._admin.forget(route.model, await caller.body(admin.BODY_BYTES))
            elif scope["method"] == "POST":
                told = await self._admin.write(route.model, await caller.body(admin.BODY_BYTES))
            else:
                told = await self._admin.read(route.model, "status" if route.kind == "rollout" else "history")
        except HeadraceError as err:
            self._gateway.count_error(err)
            raise
        return 200, _JSON, [told]

    async def _feedback(self, route: paths.Route, scope: dict[str, Any], caller: Caller) -> Response:
        headers = self._headers_of(scope)
        try:
            body = await caller.body(feedback.BODY_BYTES)
            if encoding := headers.get("content-encoding"):
                body = await asyncio.to_thread(decompress, body, encoding, feedback.BODY_BYTES)
            truths, is_list = feedback.decode(body, self._limits)
            tenant = self._headers.stamp(InferRequest(route.model, {}), headers).tenant
            told = await self._gateway.judge(route.model, tenant, truths)
            if not is_list and isinstance(told[0], HeadraceError):
                raise told[0]
        except HeadraceError as err:
            self._gateway.count_error(err, route.model)
            raise
        return 200, _JSON, [feedback.encode(truths, told, is_list)]

    def _headers_of(self, scope: dict[str, Any]) -> dict[str, str]:
        return {
            key.decode(): value.decode("latin-1")
            for key, value in scope["headers"]
            if key in self._read_headers
        }

    def _coming(self, route: paths.Route) -> AbstractContextManager[None]:
        try:
            return self._gateway.door_of(route.model, route.version).coming()
        except NotFound:  # which is told once the body is read
            return nullcontext()

    def _turned_away(self, route: paths.Route, requests: int) -> None:
        with suppress(NotFound):
            self._gateway.turned_away(route.model, route.version, requests)

    def _told_at_the_door(self, request: InferRequest) -> dict[str, str]:
        try:
            door = self._gateway.door_of(request.model, request.version)
        except NotFound:  # the version left while it answered
            return {}
        return door.headers(asyncio.get_running_loop().time())

    async def _decode(
        self, route: paths.Route, headers: Mapping[str, str], body: bytes
    ) -> tuple[InferRequest, rest.Reply]:
        """On a thread when it may take long: other requests are not to wait for it."""
        if "content-encoding" in headers or len(body) > LARGE_BYTES:
            return await asyncio.to_thread(self._decode_now, route, headers, body)
        return self._decode_now(route, headers, body)

    def _decode_now(
        self, route: paths.Route, headers: Mapping[str, str], body: bytes
    ) -> tuple[InferRequest, rest.Reply]:
        if encoding := headers.get("content-encoding"):
            body = decompress(body, encoding, self._limits.body_bytes)
        return rest.decode(route.model, route.version, headers, body, self._limits)


def _header(scope: dict[str, Any], name: bytes) -> str:
    value: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return value.decode("latin-1")


def _error(err: HeadraceError) -> Response:
    return err.status, _error_headers(err), [rest.encode_error(err)]


def _encode(
    response: InferResponse, reply: rest.Reply, encoding: str | None
) -> tuple[dict[str, str], list[bytes | memoryview]]:
    """Headers and body, compressed when the caller takes that and it saves enough."""
    headers, parts = rest.encode(response, reply)
    if encoding is None or not compression.is_worth_it(parts):
        return headers, parts
    body = compression.compress(parts, encoding)
    return {**headers, "content-encoding": encoding, "content-length": str(len(body))}, [body]


def _error_headers(err: HeadraceError) -> dict[str, str]:
    headers = dict(_JSON)
    if isinstance(err, Overloaded):
        headers["retry-after"] = str(max(1, math.ceil(err.retry_after_s)))  # whole seconds, by HTTP
    if isinstance(err, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if isinstance(err, SlowBody | TooLarge | Unauthorized):
        headers["connection"] = "close"  # the rest of the body is not read
    return headers


def _timing_headers(timings: Timings) -> dict[str, str]:
    """Which tier answered, and the W3C Server-Timing of what ran for this request, in milliseconds."""
    told: dict[str, str] = {"headrace-cache": timings.tier}
    if timings.tier in ("memory", "redis"):
        return {**told, "age": str(round(timings.age_s))}
    if timings.steps:
        told["headrace-steps"] = ", ".join(f"{name}={tier}" for name, tier in timings.steps)
    if not timings.batch_rows:
        return told
    return {
        **told,
        "server-timing": f"queue;dur={timings.queued_s * 1000:.2f}, engine;dur={timings.ran_s * 1000:.2f}, "
        f"batch;desc={timings.batch_rows}",
    }


async def _send(
    send: Send, status: int, headers: Mapping[str, str], parts: Iterable[bytes | memoryview]
) -> None:
    body = b"".join(parts)
    pairs = _pairs(headers)
    if b"content-length" not in dict(pairs) and status != 304:  # which has no body to tell the length of
        pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send, status: int, headers: Mapping[str, str], parts: AsyncGenerator[bytes]) -> None:
    """As the parts come. A viewer who takes none for a while has left, whatever the connection says."""
    async with aclosing(parts):
        part: bytes | None = await anext(parts)  # an error comes here, while there is no status yet
        await send({"type": "http.response.start", "status": status, "headers": _pairs(headers)})
        while part is not None:
            try:
                async with asyncio.timeout(SLOW_VIEWER_S):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            except TimeoutError as err:
                raise ClientLeftError from err
            part = await anext(parts, None)
    await send({"type": "http.response.body", "body": b""})


def _pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
