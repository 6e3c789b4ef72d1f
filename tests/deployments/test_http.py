"""The protocol over the real way in: HAProxy, Serve, our ASGI application."""

from __future__ import annotations

import gzip
import json
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.flags import HEADER_TIMEOUT_S, IDLE_TIMEOUT_S
from deployments.load import infer_request
from tests.conftest import BODY_TIMEOUT_S, Running
from tests.processes import front, front_settings

NAN_TIMEOUT = b'{"inputs":[],"parameters":{"timeout":NaN}}'
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def post(
    running: Running, path: str, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(f"{running.server.url}{path}", data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as err:
        return err.code, err.read()


def infer_json(**changes: object) -> dict[str, object]:
    entry = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": X.ravel().tolist(), **changes}
    return {"inputs": [entry]}


def is_clear_error(body: bytes) -> bool:
    """{"error": text} and nothing of the server's inside."""
    document = json.loads(body)
    text = document["error"]
    return list(document) == ["error"] and bool(text) and "Traceback" not in text and "/tmp" not in text


def still_answers(running: Running) -> bool:
    """The engine itself, not the cache: no two calls ask the same."""
    fresh = np.random.default_rng().random((1, 5), np.float32)
    return running.ask_model("double", fresh).tiers() == ["miss"]


def input_of(x: np.ndarray) -> triton.InferInput:
    tensor = triton.InferInput("x", list(x.shape), "FP32")
    return tensor.set_data_from_numpy(x)


@pytest.mark.parametrize("is_binary", [True, False])
def test_tritonclient_infers_and_reads_metadata_and_health(running: Running, is_binary: bool) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{running.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("double")
    assert client.is_model_ready("double", "1")
    assert client.get_server_metadata()["name"] == "headrace"
    metadata = client.get_model_metadata("double")
    assert metadata["versions"] == ["1", "2"]
    (tensor_of,) = metadata["inputs"]
    assert tensor_of.pop("parameters") == {"dims": ["batch", "length"]}
    assert tensor_of == {"name": "x", "datatype": "FP32", "shape": [-1, -1]}
    tensor = triton.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(X, binary_data=is_binary)
    wanted = triton.InferRequestedOutput("y", binary_data=is_binary)
    answer = client.infer("double", [tensor], outputs=[wanted], request_id="42")
    assert np.array_equal(answer.as_numpy("y"), X * 3)  # the last configured version answers
    assert answer.get_response()["id"] == "42"
    first = client.infer("double", [tensor], model_version="1")
    assert np.array_equal(first.as_numpy("y"), X * 2)


def test_text_travels_both_ways(running: Running) -> None:
    words = np.array([["grüezi".encode(), b""], [b"\x00", b"x"]], dtype=object)
    client = triton.InferenceServerClient(f"127.0.0.1:{running.port}")
    tensor = triton.InferInput("x", [2, 2], "BYTES")
    tensor.set_data_from_numpy(words)
    assert np.array_equal(client.infer("words", [tensor]).as_numpy("y"), words)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_taken(running: Running, algorithm: str) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{running.port}")
    tensor = triton.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(X)
    answer = client.infer("double", [tensor], request_compression_algorithm=algorithm)
    assert np.array_equal(answer.as_numpy("y"), X * 3)


@pytest.mark.parametrize(("x", "is_compressed"), [(np.zeros((1, 5000), np.float32), True), (X, False)])
def test_answers_are_compressed_when_asked_for_and_worth_it(
    running: Running, x: np.ndarray, is_compressed: bool
) -> None:
    body, length = triton.InferenceServerClient.generate_request_body([input_of(x)])
    headers = {"Inference-Header-Content-Length": str(length), "Accept-Encoding": "br, gzip;q=0.5"}
    request = urllib.request.Request(f"{running.server.url}/v2/models/double/infer", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        content = answer.read()
        head = int(answer.headers["inference-header-content-length"])
        assert answer.headers["content-encoding"] == ("gzip" if is_compressed else None)
        assert int(answer.headers["content-length"]) == len(content)
    plain = gzip.decompress(content) if is_compressed else content
    assert json.loads(plain[:head])["outputs"][0]["shape"] == list(x.shape)
    assert len(plain) - head == x.nbytes
    assert len(content) <= len(plain)


@pytest.mark.parametrize("model", ["double", "far"])
def test_a_tensor_over_four_mebibytes_passes(running: Running, model: str) -> None:
    x = np.ones((1, 2_000_000), np.float32)
    reply = running.ask_model(model, x, version="1").replies[0]
    assert reply.status == 200, reply.body[:200]
    raw = reply.body[int(reply.headers["inference-header-content-length"]) :]
    assert np.array_equal(np.frombuffer(raw, np.float32), np.full(2_000_000, 2.0, np.float32))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/models/double/infer", b"{", 400),
        ("/v2/models/double/infer", b"[" * 100_000, 400),
        ("/v2/models/double/infer", b"\xff\xfe", 400),
        ("/v2/models/double/infer", b"", 400),
        ("/v2/models/double/infer", b"{}", 400),
        ("/v2/models/nobody/infer", json.dumps(infer_json()).encode(), 404),
        ("/v2/models/double/versions/9/infer", json.dumps(infer_json()).encode(), 404),
        ("/v2/models/double/versions/../../x/infer", b"{}", 404),
        ("/v2/models/..%2f..%2fx/infer", b"{}", 404),
        ("/v2/models/double", b"{}", 405),
        ("/elsewhere", b"{}", 404),
        ("/v2/models/double/infer", json.dumps(infer_json(name="z")).encode(), 400),
        ("/v2/models/double/infer", json.dumps(infer_json(datatype="FP64")).encode(), 400),
        ("/v2/models/double/infer", json.dumps(infer_json(shape=[6])).encode(), 400),
        ("/v2/models/double/infer", json.dumps(infer_json(shape=[2, 4])).encode(), 400),
        ("/v2/models/double/infer", json.dumps(infer_json(shape=[-2, -3])).encode(), 400),
        ("/v2/models/double/infer", json.dumps(infer_json(shape=[2**40, 2**40])).encode(), 400),
        ("/v2/models/double/infer", json.dumps({**infer_json(), "outputs": [{"name": "q"}]}).encode(), 400),
        ("/v2/models/double/infer", NAN_TIMEOUT, 400),
        (
            "/v2/models/lookup/infer",
            b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[99]}]}',
            400,
        ),
    ],
)  # fmt: skip
def test_a_callers_mistake_is_a_clear_4xx(running: Running, path: str, body: bytes, status: int) -> None:
    code, answer = post(running, path, body)
    assert code == status, answer
    assert is_clear_error(answer), answer
    assert still_answers(running)


def test_a_header_length_out_of_range_is_refused(running: Running) -> None:
    for length in ("-1", "999", "abc", "1e3"):
        code, answer = post(
            running, "/v2/models/double/infer", b"{}", {"Inference-Header-Content-Length": length}
        )
        assert code == 400, (length, answer)
        assert is_clear_error(answer)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=400), cut=st.integers(0, 200), header=st.integers(-5, 500))
def test_no_body_ever_makes_a_5xx(running: Running, body: bytes, cut: int, header: int) -> None:
    whole = infer_request("test", "double", {"x": X}).partition(b"\r\n\r\n")[2]
    for damaged in (body, whole[:cut] + body + whole[cut + len(body) :]):
        code, answer = post(
            running, "/v2/models/double/infer", damaged, {"Inference-Header-Content-Length": str(header)}
        )
        assert code == 200 or (400 <= code < 500 and is_clear_error(answer)), (code, answer)


def raw_exchange(running: Running, data: bytes, timeout_s: float = 10.0) -> bytes:
    with socket.create_connection(("127.0.0.1", running.port), timeout=timeout_s) as connection:
        connection.sendall(data)
        return connection.recv(4096)


def test_a_body_over_the_limit_is_refused_before_it_is_read(running: Running) -> None:
    head = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: t\r\ncontent-length: 999999999\r\n\r\n"
    answer = raw_exchange(running, head)
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert still_answers(running)


def test_a_chunked_body_is_cut_off_at_the_limit(running: Running) -> None:
    head = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(head)
        try:
            for _ in range(66):
                connection.sendall(chunk)
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 413"), answer
        except ConnectionError:
            pass  # cut off while it was still sending; the answer is lost with the connection
    assert still_answers(running)


def test_a_small_body_that_inflates_over_the_limit_is_refused(running: Running) -> None:
    bomb = gzip.compress(b" " * (80 << 20))
    code, answer = post(running, "/v2/models/double/infer", bomb, {"Content-Encoding": "gzip"})
    assert code == 413, answer
    assert is_clear_error(answer)


def test_slow_headers_are_limited_and_only_the_front_is_public(running: Running) -> None:
    """Waiting for the limit would take half a minute: what HAProxy runs with is read instead."""
    proxy = front(running.port)
    text = front_settings(proxy)
    assert f"timeout http-request {HEADER_TIMEOUT_S}s" in text
    assert (
        f"timeout http-keep-alive {IDLE_TIMEOUT_S}s" in text
    )  # else the limit above would close idle clients
    assert {
        line
        for line in map(str.strip, text.splitlines())
        if line.startswith("bind") and "127.0.0.1:" not in line
    } == set()
    listens = [c.laddr.ip for c in proxy.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(listens) == 4  # HTTP, gRPC, statistics, metrics
    assert set(listens) == {"127.0.0.1"}


def test_a_body_that_never_arrives_is_given_up(running: Running) -> None:
    head = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\n{"
    started = time.monotonic()
    answer = raw_exchange(running, head)
    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert time.monotonic() - started < BODY_TIMEOUT_S + 5
    assert still_answers(running)


def test_clients_that_leave_in_the_middle_break_nothing(running: Running) -> None:
    slow = infer_request("test", "slow", {"x": X})
    for data in (slow[: len(slow) // 2], slow, slow, slow):
        connection = socket.create_connection(("127.0.0.1", running.port))
        connection.sendall(data)
        connection.close()
    assert running.ask_model("slow", X).replies[0].status == 200
    assert still_answers(running)


def test_a_timeout_in_microseconds_is_answered_504_when_it_passes(running: Running) -> None:
    body = json.dumps({**infer_json(), "parameters": {"timeout": 1000}}).encode()
    code, answer = post(running, "/v2/models/slow/infer", body)
    assert code == 504
    assert is_clear_error(answer)


def test_an_answer_tells_its_batch_and_where_it_came_from(running: Running) -> None:
    request = infer_request("test", "double", {"x": np.full((1, 7), 123.0, np.float32)})
    first, second = (running.ask([request]).replies[0] for _ in range(2))
    assert first.headers["headrace-cache"] == "miss"
    assert "batch;desc=1" in first.headers["server-timing"]
    assert "age" not in first.headers
    assert second.headers["headrace-cache"] in ("memory", "redis")
    assert 0 <= int(second.headers["age"]) < 60


def test_many_clients_at_once_are_all_answered_with_their_own(running: Running) -> None:
    def ask(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        xs = [rng.random((1, int(rng.integers(1, 50))), dtype=np.float32) for _ in range(40)]
        load = running.ask([infer_request("test", "double", {"x": x}) for x in xs], concurrency=8)
        raws = [reply.body[int(reply.headers["inference-header-content-length"]) :] for reply in load.replies]
        return all(
            np.array_equal(np.frombuffer(raw, np.float32), (x * np.float32(3)).ravel())
            for raw, x in zip(raws, xs, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))
