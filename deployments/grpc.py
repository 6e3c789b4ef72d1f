"""The gateway's gRPC side: the Open Inference Protocol through Serve's own gRPC ingress."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from deployments.accounts import REQUEST_ID
from deployments.arguments import Headers
from deployments.http import LARGE_BYTES
from headrace import __version__
from headrace.config import LimitsConfig
from headrace.errors import HeadraceError
from headrace.requests import Asked, InferRequest
from monitoring.stages import stages_of
from protocol import grpc as oip
from protocol import messages
from protocol.limits import Limits, error_text

if TYPE_CHECKING:
    from deployments.gateway import Gateway

_log = logging.getLogger(__name__)

SERVICER = "deployments.grpc.add_to_server"  # for Serve's `grpc_servicer_functions`
BIND = "deployments.grpc.bind_privately"  # for Serve's hook that runs before a process listens
BIND_HOST = "HEADRACE_GRPC_HOST"  # environment: where `bind_privately` listens


@dataclass(frozen=True, slots=True)
class Call:
    """A message as it came, and how long its caller still waits (None: for ever)."""

    message: bytes
    remaining_s: float | None


@dataclass(frozen=True, slots=True)
class Message:
    """A serialized message, as Serve wants to be given it."""

    content: bytes = b""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self.content


class Context(Protocol):
    """What is used of Serve's gRPC context."""

    def set_code(self, code: grpc.StatusCode) -> None: ...

    def set_details(self, details: str) -> None: ...

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None: ...


class GrpcApp:
    """Answers calls by the gateway; every failure is a status and our message, never an exception."""

    def __init__(self, gateway: Gateway, limits: LimitsConfig, headers: Headers | None = None) -> None:
        self._gateway = gateway
        self._limits = Limits.from_config(limits)
        self._headers = headers or Headers()

    async def answer(self, method: str, call: Call, context: Context) -> Message:
        try:
            return await self._respond(method, call, context)
        except HeadraceError as err:
            failure = err
        except Exception:
            _log.exception("a call failed")
            failure = HeadraceError("the server failed on this request; its log says why")
        context.set_code(oip.status_code(failure))
        context.set_details(error_text(failure))
        return Message()

    async def _respond(self, method: str, call: Call, context: Context) -> Message:
        match method:
            case "ModelInfer":
                return await self._infer(call, context)
            case "ModelReady":
                self._gateway.find(*oip.decode_model(call.message))
                reply = oip.is_model_ready()
            case "ModelMetadata":
                name, version = oip.decode_model(call.message)
                served = self._gateway.find(name, version)
                versions = self._gateway.versions(name)
                reply = oip.model_metadata(name, versions, served.engine, served.signature)
            case "ServerMetadata":
                reply = oip.server_metadata("headrace", __version__)
            case "ServerReady":
                reply = oip.is_ready()
            case _:
                reply = oip.is_live()
        return Message(reply)

    async def _infer(self, call: Call, context: Context) -> Message:
        began = time.monotonic()
        asked = self._gateway.accounts.asked("grpc", context.invocation_metadata() or (), began)
        try:
            return await self._answered(call, context, began, asked)
        finally:
            if asked is not None:
                told = self._gateway.accounts.headers(asked, 200)
                context.set_trailing_metadata([(REQUEST_ID, asked.request_id), *told.items()])

    async def _answered(self, call: Call, context: Context, began: float, asked: Asked | None) -> Message:
        decode = functools.partial(oip.decode, call.message, self._limits, call.remaining_s)
        with self._gateway.telling(InferRequest("", {}, asked=asked)):
            request = await _run(decode, len(call.message))
        if asked is not None:
            request = replace(request, asked=asked)
        if self._headers.names:
            request = self._headers.stamp(request, dict(context.invocation_metadata() or ()))
        decoded_at = time.monotonic()
        response = await self._gateway.answer(request)
        answered_at = time.monotonic()
        num_bytes = sum(array.nbytes for array in response.outputs.values())
        with self._gateway.telling(request, response.version):
            reply = Message(await _run(lambda: b"".join(oip.encode(response)), num_bytes))
        ended = time.monotonic()
        spent = stages_of(
            response.timings,
            answered_at - decoded_at,
            decode_s=decoded_at - began,
            encode_s=ended - answered_at,
        )
        self._gateway.answered(request, response, ended - began, spent)
        return reply


async def _run(work: Callable[[], Any], num_bytes: int) -> Any:
    """On a thread when it may take long: other requests are not to wait for it."""
    return await asyncio.to_thread(work) if num_bytes > LARGE_BYTES else work()


class GrpcMethods:
    """The methods that Serve calls, by the protocol's names; the gateway inherits them."""

    grpc: GrpcApp

    async def ServerLive(self, call: Call, grpc_context: Context) -> Message:  # noqa: N802
        return await self.grpc.answer("ServerLive", call, grpc_context)

    async def ServerReady(self, call: Call, grpc_context: Context) -> Message:  # noqa: N802
        return await self.grpc.answer("ServerReady", call, grpc_context)

    async def ModelReady(self, call: Call, grpc_context: Context) -> Message:  # noqa: N802
        return await self.grpc.answer("ModelReady", call, grpc_context)

    async def ServerMetadata(self, call: Call, grpc_context: Context) -> Message:  # noqa: N802
        return await self.grpc.answer("ServerMetadata", call, grpc_context)

    async def ModelMetadata(self, call: Call, grpc_context: Context) -> Message:  # noqa: N802
        return await self.grpc.answer("ModelMetadata", call, grpc_context)

    async def ModelInfer(self, call: Call, grpc_context: Context) -> Message:  # noqa: N802
        return await self.grpc.answer("ModelInfer", call, grpc_context)


Handler = Callable[[Any, Any], Awaitable[bytes]]


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """The service's handlers. Serve puts its own in their place, which hand a call on to a replica; they
    get the message unparsed and the call's deadline with it, which Serve's context does not tell."""

    def __init__(self) -> None:
        self._method_handlers = {
            f"/{messages.SERVICE}/{method}": grpc.unary_unary_rpc_method_handler(_unanswered)
            for method in messages.METHODS
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        handler = self._method_handlers.get(handler_call_details.method)
        return handler and handler._replace(unary_unary=_with_deadline(handler.unary_unary))


def _with_deadline(handler: Handler) -> Handler:
    async def handle(message: bytes, context: Any) -> bytes:
        return await handler(Call(message, context.time_remaining()), context)

    return handle


async def _unanswered(message: bytes, context: Any) -> bytes:
    raise AssertionError("Serve did not put its handler here")


def add_to_server(servicer: object, server: Any) -> None:
    """What Serve calls in each process that listens for gRPC."""
    server.add_generic_rpc_handlers((_Handlers(),))


def bind_privately() -> list[Any]:
    """Serve's gRPC servers of this process listen on $HEADRACE_GRPC_HOST from now on.

    Serve has no setting for the address of its gRPC servers and would bind every interface. This is its
    hook for middlewares (of which there are none), called in each process before a server starts.

    A port that somebody listens on is refused, and Serve takes another. gRPC would share it, since the option
    by which Serve forbids that has a type which gRPC ignores: two servers on one machine would then get each
    other's calls.
    """
    from ray.serve._private import default_impl

    host = os.environ[BIND_HOST]

    def add_address(server: Any, address: str) -> None:
        port = int(address.rpartition(":")[2])
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as err:
                raise RuntimeError(f"cannot listen on {host}:{port}: {err.strerror}") from err
        server.add_insecure_port(f"{host}:{port}")

    default_impl.add_grpc_address = add_address
    return []
