"""Feedback to a real server: over HTTP and by handle, to whichever gateway."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from deployments.load import infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from headrace.config import parse_config
from headrace.errors import Conflict, NotFound
from headrace.metrics import FEEDBACK, FEEDBACK_RIGHT
from tests.deployments.test_pressure import ask
from tests.onnx_models import publish_all

METRICS_WAIT_S = 40.0
X = [[0.0, 2.0, 1.0]]  # class 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("models")
    publish_all(root)
    (port,) = free_ports(1)
    config = parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "gateways": 2,
            "cache": {"enabled": False, "tenant_header": "x-tenant"},
            "models": {
                "double": {"versions": ["1", "2"], "feedback": {"output": "y"}},
                "words": {"feedback": {"output": "y", "rule": "equal"}},
                "slow": {},
            },
        }
    )
    with serving(config) as running:
        yield running


def post(server: Server, path: str, document: object, **headers: str) -> tuple[int, Any, Any]:
    """Status, document and headers of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.config.http.port}/v2/models/{path}",
        data=json.dumps(document).encode(),
        headers={"content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as err:
        return err.code, json.load(err), err.headers


def infer(server: Server, model: str = "double", **told: object) -> tuple[Any, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": X}
    if model == "words":
        tensor = {"name": "x", "datatype": "BYTES", "shape": [1, 1], "data": ["spam"]}
    status, document, headers = post(server, f"{model}/infer", {"inputs": [tensor], **told})
    assert status == 200
    return document, headers


def test_a_request_without_an_id_gets_one_and_the_truth_may_be_told_by_it(server: Server) -> None:
    for _ in range(12):  # two gateways: half of it reaches the other one
        document, headers = infer(server)
        assert document["id"] == headers["headrace-request-id"]
        status, told, _ = post(server, "double/feedback", {"id": document["id"], "label": 1})
        assert (status, told) == (200, {"id": document["id"], "model_version": "2", "right": 1.0})


def test_binary_answers_tell_their_id_too(server: Server) -> None:
    (reply,) = ask(server, [infer_request("test", "double", {"x": np.array(X, np.float32)})], 1).replies
    head = json.loads(reply.body[: int(reply.headers["inference-header-content-length"])])
    assert head["id"] == reply.headers["headrace-request-id"]
    assert post(server, "double/feedback", {"id": head["id"], "label": 0})[1]["right"] == 0.0


def test_an_id_of_the_callers_own_is_taken_and_counts_once(server: Server) -> None:
    document, headers = infer(server, id="my-17")
    assert (document["id"], headers["headrace-request-id"]) == ("my-17", None)
    assert post(server, "double/feedback", {"id": "my-17", "right": 0.5})[1]["right"] == 0.5
    for _ in range(6):
        status, told, _ = post(server, "double/feedback", {"id": "my-17", "right": True})
        assert (status, "counts once" in told["error"]) == (409, True)


def test_models_without_feedback_name_no_requests(server: Server) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
    status, document, headers = post(server, "slow/infer", {"inputs": [tensor]})
    assert (status, "id" in document, headers["headrace-request-id"]) == (200, False, None)


def test_a_list_is_answered_one_by_one(server: Server) -> None:
    ids = [infer(server)[0]["id"] for _ in range(20)]
    truths = [{"id": known, "label": number % 2} for number, known in enumerate(ids)]
    status, told, _ = post(server, "double/feedback", [*truths, {"id": "nobody", "label": 1}])
    assert status == 200
    assert [entry.get("right") for entry in told["results"]] == [number % 2 for number in range(20)] + [None]
    assert "no answer to request 'nobody' is known" in told["results"][-1]["error"]


def test_text_is_judged_by_being_equal(server: Server) -> None:
    document, _ = infer(server, "words")
    status, told, _ = post(server, "words/feedback", {"id": document["id"], "label": "spam"})
    assert (status, told["right"]) == (200, 1.0)


def test_tenants_cannot_judge_each_others_answers(server: Server) -> None:
    document, _ = infer(server)
    told = {"id": document["id"], "label": 1}
    assert post(server, "double/feedback", told, **{"x-tenant": "other"})[0] == 404
    assert post(server, "double/feedback", told)[0] == 200


@pytest.mark.parametrize(
    ("path", "document", "status", "told"),
    [
        ("double/feedback", {"id": "nobody", "label": 1}, 404, "keep 10000 answers for 3600 s"),
        ("double/feedback", {"id": "nobody"}, 400, "neither of 'label' and 'right'"),
        ("double/feedback", {"id": "a" * 300, "label": 1}, 400, "300 characters"),
        ("double/feedback", "text", 400, "must be an object"),
        ("double/feedback", ["a" * (1 << 20)], 413, "limit"),
        ("slow/feedback", {"id": "a", "label": 1}, 404, "takes no feedback"),
        ("nobody/feedback", {"id": "a", "label": 1}, 404, "no model 'nobody'"),
        ("double/versions/2/feedback", {"id": "a", "label": 1}, 404, "no such path"),
    ],
)
def test_a_callers_mistake_is_told(
    server: Server, path: str, document: object, status: int, told: str
) -> None:
    found, answer, _ = post(server, path, document)
    assert (found, told in answer["error"]) == (status, True), answer


def test_a_label_that_does_not_fit_may_be_told_again(server: Server) -> None:
    known = infer(server)[0]["id"]
    status, told, _ = post(server, "double/feedback", {"id": known, "label": 7})
    assert (status, told["error"]) == (400, "'label' is to hold classes from 0 to 2")
    assert post(server, "double/feedback", {"id": known, "label": 1})[0] == 200


def test_feedback_by_handle(server: Server) -> None:
    handle = serve.get_app_handle("headrace")
    for number in range(6):
        x = np.array(X, np.float32)
        handle.infer.remote("double", {"x": x}, version="1", id=f"job-{number}").result(timeout_s=30)
        told = handle.feedback.remote("double", f"job-{number}", label=np.array([1])).result(timeout_s=30)
        assert told == {"model_version": "1", "right": 1.0}
    with pytest.raises(Conflict):
        handle.feedback.remote("double", "job-0", label=1).result(timeout_s=30)
    with pytest.raises(NotFound):
        handle.feedback.remote("double", "nobody", right=True).result(timeout_s=30)


def test_what_was_right_is_counted_by_version(server: Server) -> None:
    names = [f"ray_{spec.name}" for spec in (FEEDBACK, FEEDBACK_RIGHT)]
    for right in [0.0] * 8 + [0.5] * 8:  # at first nothing but wrong ones
        known = infer(server)[0]["id"]
        assert post(server, "double/feedback", {"id": known, "right": right})[0] == 200
        time.sleep(0.15)
    found: dict[str, float] = {}
    deadline = time.monotonic() + METRICS_WAIT_S
    wanted = noted(server)
    assert wanted[0] >= 16
    while time.monotonic() < deadline:
        found = counted(server)
        if [found.get(name, 0.0) for name in names] == wanted:
            return
        time.sleep(1)
    pytest.fail(f"metrics of feedback: {found}, not {wanted}")


def noted(server: Server) -> list[float]:
    """What the gateways have noted as evidence: answers judged, and right ones, of version 2."""
    views = serve.get_app_handle("headrace").broadcast("seen", {"double": 0}).results(timeout_s=30)
    slots = [by["2"] for view in views for by in view["slots"]["double"].values() if "2" in by]
    return [float(sum(slot.judged for slot in slots)), sum(slot.right for slot in slots)]


def counted(server: Server) -> dict[str, float]:
    """Sums over the gateways, of version 2 of `double`."""
    import ray

    found: dict[str, float] = {}
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if (sample.labels.get("model"), sample.labels.get("version")) == ("double", "2"):
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found
