"""Pipelines on the real server: text in, an answer out, each step remembered for itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from ray import serve

from deployments.load import infer_request
from headrace.errors import TensorRejected
from tests.conftest import Running


def text(*texts: bytes) -> np.ndarray:
    return np.array(texts, object)


def wanted(word: bytes) -> list[list[float]]:
    return [[3.0 * (letter + 1) for letter in word]]


@pytest.mark.parametrize("model", ["text", "far_text"])
def test_text_by_handle_is_answered_like_a_model(running: Running, model: str) -> None:
    handle: Any = serve.get_app_handle("headrace")
    answer = handle.infer.remote(model, {"text": text(b"hello")}).result(timeout_s=30)
    assert answer["y"].tolist() == wanted(b"hello")


def test_many_texts_of_unlike_lengths_at_once(running: Running) -> None:
    words = [b"x" * (1 + number % 17) for number in range(200)]
    load = running.ask([infer_request("test", "far_text", {"text": text(word)}) for word in words], 32)
    assert load.num_failed == 0
    for word, reply in zip(words, load.replies, strict=True):
        start = int(reply.headers["inference-header-content-length"])
        assert np.frombuffer(reply.body[start:], np.float32).tolist() == wanted(word)[0]


def test_headers_tell_where_each_step_came_from(running: Running) -> None:
    first = infer_request("test", "text", {"text": text(b"steps")})
    load = running.ask([first, first])
    assert load.replies[0].headers["headrace-cache"] == "miss"
    assert load.replies[0].headers["headrace-steps"] == "letters=miss, double=miss"
    assert load.replies[1].headers["headrace-cache"] in ("memory", "redis")
    assert "headrace-steps" not in load.replies[1].headers


def test_a_clients_mistake_in_a_step_is_a_400_and_an_authors_a_500(running: Running) -> None:
    replies = running.ask(
        [infer_request("test", "text", {"text": text(word)}) for word in (b"bad", b"broken")]
    ).replies
    assert [reply.status for reply in replies] == [400, 500]
    assert json.loads(replies[0].body) == {"error": "step 'letters': 'bad' is not a good word"}
    handle: Any = serve.get_app_handle("headrace")
    with pytest.raises(TensorRejected, match="not a good word"):
        handle.infer.remote("far_text", {"text": text(b"bad")}).result(timeout_s=30)


def test_one_bad_text_takes_no_other_with_it(running: Running) -> None:
    words = [b"bad" if number % 10 == 3 else b"w%d" % number for number in range(100)]
    load = running.ask([infer_request("test", "far_text", {"text": text(word)}) for word in words], 50)
    assert [reply.status for reply in load.replies] == [400 if word == b"bad" else 200 for word in words]


def test_metadata_tells_what_the_whole_takes_and_gives(running: Running) -> None:
    client = tritonclient.http.InferenceServerClient(running.http)
    found = client.get_model_metadata("text")
    assert found["platform"] == "pipeline"
    assert found["versions"] == ["1-2"]
    (tensor,) = found["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("text", "BYTES", [-1])
    assert client.is_model_ready("text", "1-2")
    rpc = tritonclient.grpc.InferenceServerClient(running.grpc)
    given = tritonclient.grpc.InferInput("text", [1], "BYTES")
    given.set_data_from_numpy(text(b"grpc"))
    assert rpc.infer("text", [given]).as_numpy("y").tolist() == wanted(b"grpc")


def test_json_text_needs_no_client_library(running: Running) -> None:
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["plain"]}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.port}/v2/models/text/infer", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        (output,) = json.load(reply)["outputs"]
    assert output["data"] == wanted(b"plain")[0]


def test_a_purge_of_one_step_is_heard(running: Running) -> None:
    handle: Any = serve.get_app_handle("headrace")
    request = infer_request("test", "text", {"text": text(b"purged")})
    running.ask([request])
    handle.purge.remote(model="text").result(timeout_s=30)
    handle.purge.remote(model="double").result(timeout_s=30)
    steps = {reply.headers.get("headrace-steps") for reply in running.ask([request] * 1).replies}
    assert steps <= {"letters=memory, double=miss", "letters=redis, double=miss"}
