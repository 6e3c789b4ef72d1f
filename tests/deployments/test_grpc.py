"""gRPC over the real way in: HAProxy, Serve's own servers, the gateway."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from ray.serve._private import default_impl
from ray.serve._private.grpc_util import gRPCGenericServer
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from deployments.flags import MAX_MESSAGE
from deployments.grpc import BIND_HOST, Call, add_to_server, bind_privately
from protocol import messages
from tests.conftest import TENANT_HEADER, Running
from tests.onnx_models import same
from tests.processes import front, front_settings

X = np.arange(6, dtype=np.float32).reshape(2, 3)
INFER = f"/{messages.SERVICE}/ModelInfer"


@pytest.fixture
def client(running: Running) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(running.grpc)


def tensor(array: np.ndarray) -> Any:
    made = triton.InferInput("x", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


def test_an_answer_tells_model_version_id_and_tier(client: triton.InferenceServerClient) -> None:
    fresh = tensor(np.random.default_rng().random((2, 3), np.float32))
    for version, answering in (("", "2"), ("1", "1")):
        answer = client.infer("double", [fresh], model_version=version, request_id="7").get_response()
        assert (answer.model_name, answer.model_version, answer.id) == ("double", answering, "7")
        assert answer.parameters["cache"].string_param == "miss"


def test_tenants_do_not_share_cached_answers(client: triton.InferenceServerClient) -> None:
    x = tensor(np.random.default_rng().random((2, 3), np.float32))
    for headers in (None, {TENANT_HEADER: "acme"}, {TENANT_HEADER: "other"}):
        answer = client.infer("double", [x], headers=headers).get_response()
        assert answer.parameters["cache"].string_param == "miss"


@pytest.mark.parametrize("model", ["double", "far"])
def test_a_tensor_over_four_mebibytes_passes(client: triton.InferenceServerClient, model: str) -> None:
    x = np.ones((1, 2_500_000), np.float32)
    found = client.infer(model, [tensor(x)], model_version="1").as_numpy("y")
    assert np.array_equal(found, x * 2)


def test_typed_contents_are_taken(running: Running) -> None:
    request = service_pb2.ModelInferRequest(model_name=same("INT8"))
    given = request.inputs.add(name="x", datatype="INT8", shape=[1, 3])
    given.contents.int_contents.extend([-128, 0, 127])
    with grpc.insecure_channel(running.grpc) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert answer.raw_output_contents[0] == bytes([128, 0, 127])


@pytest.mark.parametrize("content", [b"\x3a\x05ab", b"\xff" * 20, b"\x0a\x01\xff", b"", b"\x2a\x02\x08\x01"])
def test_bytes_that_are_no_request_are_the_callers_mistake(running: Running, content: bytes) -> None:
    with grpc.insecure_channel(running.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(INFER)(content, timeout=10)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert "Traceback" not in caught.value.details()


def test_what_is_not_offered_is_unimplemented(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_config("double")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_far_over_the_limit_is_refused_before_it_is_held(
    client: triton.InferenceServerClient, running: Running, compression: grpc.Compression
) -> None:
    with grpc.insecure_channel(running.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(INFER)(bytes(MAX_MESSAGE + 1), compression=compression)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
    assert client.infer("double", [tensor(X)]).as_numpy("y").shape == X.shape


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_caller_that_gives_up_leaves_no_work_behind(client: triton.InferenceServerClient, how: str) -> None:
    def slow_s() -> float:
        started = time.perf_counter()
        client.infer("slow", [tensor(X)])
        return time.perf_counter() - started

    alone_s = slow_s()
    answers: list[Any] = []
    calls = [
        client.async_infer(
            "slow",
            [tensor(X)],
            callback=lambda result, error: answers.append(error),
            client_timeout=alone_s / 2 if how == "deadline" else None,
        )
        for _ in range(24)
    ]
    client.infer("double", [tensor(X)])  # over the same connection: the others have arrived, too
    if how == "cancel":
        for call in calls:
            call.cancel()
    # Two gateways: 12 of the 24 would be before it, and one may be in the engine already.
    assert slow_s() < 6 * alone_s
    wanted = {"cancel": "CANCELLED", "deadline": "DEADLINE_EXCEEDED"}[how]
    failed = [error.status() for error in answers if error is not None]
    assert set(failed) == {f"StatusCode.{wanted}"}
    assert len(failed) >= 20


async def test_many_calls_at_once_are_all_answered_with_their_own(running: Running) -> None:
    rng = np.random.default_rng(5)
    xs = [rng.random((1, int(rng.integers(1, 50))), np.float32) for _ in range(200)]
    async with triton_aio.InferenceServerClient(running.grpc) as client:
        answers = await asyncio.gather(*(client.infer("double", [tensor(x)]) for x in xs))
    for x, answer in zip(xs, answers, strict=True):
        assert np.array_equal(answer.as_numpy("y"), x * np.float32(3))


def test_only_the_front_can_be_reached_from_elsewhere(running: Running) -> None:
    settings = front_settings(front(running.port))
    ports = {int(port) for port in re.findall(r"server \S+ 127\.0\.0\.1:(\d+) proto h2", settings)}
    assert len(ports) == running.server.config.gateways + 1  # and Serve's own, for its own methods
    ips = [
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    ]
    assert len(ips) == len(ports)
    assert {ip.removeprefix("::ffff:") for ip in ips} == {"127.0.0.1"}


@pytest.mark.parametrize(("timeout_s", "low", "high"), [(None, None, None), (30.0, 20.0, 31.0)])
async def test_a_call_brings_its_message_unparsed_and_what_is_left_of_its_deadline(
    timeout_s: float | None, low: float | None, high: float | None
) -> None:
    """On Serve's own kind of server."""
    calls: list[Call] = []

    def factory(service_method: str, streaming_type: object) -> Callable[..., Awaitable[bytes]]:
        async def handle(call: Call, context: object) -> bytes:
            calls.append(call)
            return service_method.encode()

        return handle

    server = gRPCGenericServer(factory)
    add_to_server(object(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary(INFER)(b"anything", timeout=timeout_s) == INFER.encode()
    finally:
        await server.stop(None)
    (call,) = calls
    assert call.message == b"anything"
    if low is None or high is None:
        assert call.remaining_s is None
    else:
        assert call.remaining_s is not None
        assert low < call.remaining_s <= high


async def test_a_port_that_another_server_listens_on_is_not_shared_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(default_impl, "add_grpc_address", None)  # put back at the end
    monkeypatch.setenv(BIND_HOST, "127.0.0.1")
    bind_privately()
    first, second = (gRPCGenericServer(lambda *_: None) for _ in range(2))
    port = first.add_insecure_port("127.0.0.1:0")
    await first.start()
    try:
        with pytest.raises(RuntimeError, match="Address already in use") as refused:
            default_impl.add_grpc_address(second, f"[::]:{port}")
        assert isinstance(refused.value.__cause__, OSError)  # by which Serve knows to try another port
    finally:
        await first.stop(None)
    default_impl.add_grpc_address(second, f"[::]:{port}")
