"""Calls by handle, the cache behind them, and what happens when the cache server goes."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ray import serve
from ray.exceptions import RayTaskError

from deployments import app
from deployments.load import infer_request
from headrace.errors import CallerError, DeadlinePassed, NotCached, NotFound, TensorRejected
from headrace.metrics import BATCH_ELEMENTS, BATCHES, CACHE_REQUESTS, ERRORS, QUEUE_DEPTH, REQUEST_LATENCY
from headrace.tensors import DTYPES
from tests.conftest import TENANT_HEADER, Running
from tests.onnx_models import same

X = np.arange(6, dtype=np.float32).reshape(2, 3)
METRICS_WAIT_S = 40.0


@pytest.fixture
def handle(running: Running) -> Any:
    return serve.get_app_handle("headrace")


def test_arrays_go_in_and_arrays_come_out(handle: Any) -> None:
    answer = handle.infer.remote("double", {"x": X}).result(timeout_s=30)
    assert list(answer) == ["y"]
    assert np.array_equal(answer["y"], X * 3)


def test_a_version_and_outputs_can_be_named(handle: Any) -> None:
    answer = handle.infer.remote("double", {"x": X}, version="1", outputs=("y",)).result(timeout_s=30)
    assert np.array_equal(answer["y"], X * 2)


def test_bf16_and_a_priority_are_taken_by_handle(handle: Any) -> None:
    x = X.astype(DTYPES["BF16"])
    answer = handle.infer.remote(same("BF16"), {"x": x}, priority=1).result(timeout_s=30)
    assert answer["y"].dtype == x.dtype
    assert answer["y"].tobytes() == x.tobytes()
    with pytest.raises(CallerError, match="priority must be 0"):
        handle.infer.remote("double", {"x": X}, priority=-1).result(timeout_s=30)


def test_text_by_handle_is_not_cut_to_a_width(handle: Any) -> None:
    answers = [
        handle.infer.remote("words", {"x": np.array([[word]])}, cache="bypass")
        for word in ("hi", "hello there", "ü")
    ]
    found = [answer.result(timeout_s=30)["y"][0, 0].decode() for answer in answers]
    assert found == ["hi", "hello there", "ü"]


def test_a_request_of_more_rows_than_a_batch_is_answered_whole(handle: Any) -> None:
    x = np.arange(300, dtype=np.float32).reshape(100, 3)
    for model, factor in (("double", 3), ("far", 2)):
        answer = handle.infer.remote(model, {"x": x}).result(timeout_s=30)
        assert np.array_equal(answer["y"], x * factor)


def test_the_builders_make_applications_for_serve_itself(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(json.dumps(running.server.config.model_dump()))
    handle = serve.run(
        app.model_app({"config": str(file), "model": "far", "version": "1"}), name="built", route_prefix=None
    )
    try:
        assert len(handle.infer_packed.remote([({"x": X}, (), None, 0)]).result(timeout_s=30)) == 1
        app.deploy(running.server.config)
        assert "built" in serve.status().applications  # not ours: it stays
    finally:
        serve.delete("built")
    assert app.gateway_app({"config": str(file)}) is not None


def test_a_model_on_replicas_answers_the_same_way(handle: Any) -> None:
    answers = [handle.infer.remote("far", {"x": X + number}) for number in range(50)]
    for number, answer in enumerate(answers):
        assert np.array_equal(answer.result(timeout_s=30)["y"], (X + number) * 2)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("nobody", {"x": X}), NotFound),
        (("double", {"x": X}, "7"), NotFound),
        (("double", {"z": X}), TensorRejected),
        (("far", {"x": X.astype(np.float64)}), TensorRejected),
        (("lookup", {"x": np.array([[99]])}), TensorRejected),
        (("double", {"x": [1, 2]}), CallerError),
        (("double", {"x": X}, None, (), float("nan")), CallerError),
    ],
)
def test_a_callers_mistake_arrives_as_the_error_it_is(
    handle: Any, arguments: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        handle.infer.remote(*arguments).result(timeout_s=30)
    assert isinstance(caught.value, RayTaskError)


def test_a_timeout_that_passes_is_said(handle: Any) -> None:
    with pytest.raises(DeadlinePassed):
        handle.infer.remote("slow", {"x": X}, timeout_s=0.001).result(timeout_s=30)


def test_a_cached_answer_is_the_fresh_one_bit_by_bit(running: Running) -> None:
    request = infer_request("test", "double", {"x": np.random.default_rng(5).random((3, 11), np.float32)})
    replies = running.ask([request] * 20).replies
    tiers = [reply.headers["headrace-cache"] for reply in replies]
    raws = {reply.body[int(reply.headers["inference-header-content-length"]) :] for reply in replies}
    assert tiers[0] == "miss"
    assert set(tiers[2:]) <= {"memory", "redis"}
    assert len(raws) == 1


def test_versions_do_not_share_cached_answers(running: Running) -> None:
    x = np.full((1, 5), 77.0, np.float32)
    for _ in range(3):
        for version, factor in (("1", 2), ("2", 3)):
            reply = running.ask_model("double", x, version).replies[0]
            raw = reply.body[int(reply.headers["inference-header-content-length"]) :]
            assert np.array_equal(np.frombuffer(raw, np.float32), x[0] * factor)


def test_tenants_do_not_share_cached_answers(running: Running, handle: Any) -> None:
    request = infer_request("test", "double", {"x": np.full((1, 5), 78.0, np.float32)})
    for tenant in ("", "acme", "other"):
        head = f"\r\n{TENANT_HEADER}: {tenant}\r\n".encode() if tenant else b"\r\n"
        asked = request.replace(b"\r\n", head, 1)
        tiers = [running.ask([asked]).replies[0].headers["headrace-cache"] for _ in range(2)]
        time.sleep(0.2)
        assert (tiers[0], tiers[1] in ("memory", "redis", "flight")) == ("miss", True), (tenant, tiers)
    assert handle.purge.remote(tenant="acme").result(timeout_s=30) == 1


def test_requests_can_pass_by_the_cache(running: Running, handle: Any) -> None:
    x = np.full((1, 6), 88.0, np.float32)
    for _ in range(3):
        handle.infer.remote("double", {"x": x}, cache="bypass").result(timeout_s=30)
    reply = running.ask_model("double", x).replies[0]
    assert reply.headers["headrace-cache"] == "miss"  # nothing was kept of the three


def test_a_request_can_ask_for_a_remembered_answer_only(running: Running, handle: Any) -> None:
    x = np.full((1, 6), 89.0, np.float32)
    for model in ("double", "slow"):  # the second remembers nothing
        with pytest.raises(NotCached, match="remembered"):
            handle.infer.remote(model, {"x": x}, cache="only").result(timeout_s=30)
    running.ask_model("double", x)
    time.sleep(0.2)  # written to the shared store once it was answered
    answer = handle.infer.remote("double", {"x": x}, cache="only").result(timeout_s=30)
    assert np.array_equal(answer["y"], 3 * x)
    handle.infer.remote("double", {"x": x}, cache="refresh").result(timeout_s=30)


def test_a_purge_reaches_every_gateway_within_a_second(running: Running, handle: Any) -> None:
    x = np.full((1, 6), 90.0, np.float32)

    def tiers() -> set[str]:
        replies = running.ask([infer_request("test", "double", {"x": x})] * 16, 4).replies
        return {reply.headers["headrace-cache"] for reply in replies}

    handle.broadcast("infer", "double", {"x": x}).results(timeout_s=30)  # each gateway remembers
    assert tiers() == {"memory"}
    assert handle.purge.remote(model="words").result(timeout_s=30) >= 0
    time.sleep(1.0)
    assert tiers() == {"memory"}  # it was another model's
    assert handle.purge.remote(model="double").result(timeout_s=30) >= 1
    time.sleep(1.0)
    for _ in range(8):
        with pytest.raises(NotCached):
            handle.infer.remote("double", {"x": x}, cache="only").result(timeout_s=30)


def test_a_gateway_can_be_told_to_forget_by_itself(running: Running, handle: Any) -> None:
    x = np.full((1, 6), 92.0, np.float32)
    handle.broadcast("infer", "double", {"x": x}).results(timeout_s=30)
    time.sleep(4.0)  # what was written a moment ago would be deleted from the shared cache, too
    handle.broadcast("forget", model="double").results(timeout_s=30)
    assert running.ask_model("double", x).replies[0].headers["headrace-cache"] == "redis"


def test_a_purge_that_means_nothing_is_refused(handle: Any) -> None:
    with pytest.raises(CallerError, match="1 to 64 of the characters"):
        handle.purge.remote(model="*").result(timeout_s=30)


def test_a_killed_cache_server_means_slower_but_no_error(running: Running) -> None:
    rng = np.random.default_rng(6)
    requests = [infer_request("test", "double", {"x": rng.random((1, 9), np.float32)}) for _ in range(60)]
    pid = running.cache_server.pid
    assert pid is not None
    psutil.Process(pid).kill()
    psutil.wait_procs([psutil.Process(pid)], timeout=5)
    assert running.cache_server.pid is None
    try:
        assert running.ask(requests, concurrency=8).num_failed == 0
        assert running.ask(requests, concurrency=8).num_failed == 0
    finally:
        running.cache_server.start()
    assert is_shared_again(running)


def is_shared_again(running: Running) -> bool:
    """One gateway finds what the other computed, within 10 s of the cache server's return."""
    rng = np.random.default_rng(7)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        request = infer_request("test", "double", {"x": rng.random((1, 9), np.float32)})
        load = running.ask([request] * 6)
        assert load.num_failed == 0
        if "redis" in load.tiers():
            return True
    return False


def test_metrics_reach_rays_prometheus_port_with_model_and_version(running: Running) -> None:
    running.ask_model("double", X)
    running.ask_model("nobody", X)
    wanted = {
        spec.name for spec in (REQUEST_LATENCY, QUEUE_DEPTH, BATCHES, BATCH_ELEMENTS, CACHE_REQUESTS, ERRORS)
    }

    def untold() -> list[str]:
        found = scrape(running)
        expected = {
            "the model's version": any(
                (label.get("model"), label.get("version")) == ("double", "2")
                for label in found.get(REQUEST_LATENCY.name, [])
            ),
            "the cache's tier": any(
                label.get("tier") == "miss" for label in found.get(CACHE_REQUESTS.name, [])
            ),
            "an unknown model as no label": any(
                label.get("kind") == "not_found" and not label.get("model")
                for label in found.get(ERRORS.name, [])
            ),
        }
        return sorted(wanted - set(found)) + [name for name, is_told in expected.items() if not is_told]

    deadline = time.monotonic() + METRICS_WAIT_S
    while (missing := untold()) and time.monotonic() < deadline:
        time.sleep(1)  # Ray exports every few seconds
    assert not missing


def scrape(running: Running) -> dict[str, list[dict[str, str]]]:
    """Our metrics on Ray's port: name without Ray's prefix -> labels of its samples."""
    with urllib.request.urlopen(running.server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("ray_")
            for suffix in ("_bucket", "_sum", "_count"):
                if name.endswith(suffix):
                    name = name.removesuffix(suffix)
            found.setdefault(name, []).append(sample.labels)
    return found
