"""Rollouts on the real server: Ray, HAProxy, replicas, and a load that goes on meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from benchmarks.digit_versions import MODEL, inputs
from benchmarks.live_rollout import (
    act,
    answered_by,
    digits_server,
    gets,
    is_done,
    kill,
    processes,
    send,
    watch,
)
from deployments.admin import TOKEN
from deployments.serving import Server
from headrace.errors import ConfigRejected, Conflict, HeadraceError, NotFound
from rollout.state import FILE

RATE = 60.0
SECRET = "a token of the tests"
CALLER = "headrace-caller"
QUICK = {"steps": [10, 50, 100], "interval_s": 1, "min_sample": 20, "soak_s": 1}
GUARDS = ["p50<=3x", "errors<=+0.5%"]  # the machine is shared, so that latencies differ by chance


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN, SECRET)
        with digits_server(tmp_path_factory.mktemp("models")) as running:
            yield running


@pytest.fixture
def stable(server: Server) -> Iterator[str]:
    """No rollout is under way, before and after; the version that answers."""
    yield act("status")["stable"]
    if act("status")["rollout"] is not None:
        act("rollback")


def replicas(version: str) -> set[int]:
    """The processes that run a version."""
    return processes(f"ServeReplica:headrace:{MODEL}:{version}")


def test_a_good_version_takes_over_and_no_caller_notices(server: Server) -> None:
    before = replicas("1")
    sent = send(server, RATE, 25)
    act("start", to="2", guards=GUARDS, **QUICK)
    seen = watch(server, 60, lambda state: state.rollout is None or state.rollout.phase == "soak")
    assert replicas("1") == before  # until the last step, the stable version is what it was
    assert len(before) == 1
    seen += watch(server, 60, is_done)
    load = sent.result()
    assert seen[-1][1].stable == "2"
    assert seen[-1][1].history[-1].what == "finished"
    assert load.num_failed == 0
    shares = [state.split.shares.get("2", 0.0) for _, state in seen]
    assert shares == sorted(shares)
    assert {0.1, 0.5, 1.0} <= set(shares)


def test_the_former_version_ends_when_nobody_needs_it(server: Server) -> None:
    from ray import serve

    assert act("status")["stable"] == "2"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and f"headrace:{MODEL}:1" in serve.status().applications:
        time.sleep(0.2)
    assert f"headrace:{MODEL}:1" not in serve.status().applications
    assert f"headrace:{MODEL}:2" in serve.status().applications


def test_the_failures_of_a_candidate_reach_nobody_and_it_is_rolled_back(server: Server, stable: str) -> None:
    sent = send(server, RATE, 40)
    act("start", to="fails", guards=GUARDS, **{**QUICK, "steps": [30, 100], "min_sample": 1000})
    seen = watch(server, 60, is_done)
    load = sent.result()
    assert seen[-1][1].stable == stable
    last = seen[-1][1].history[-1]
    assert (last.what, last.version) == ("rolled_back", "fails")
    assert "errors" in last.why
    assert load.num_failed == 0
    found = answered_by(load)
    assert found["fallback"] > 0
    assert found["candidate"] + found["fallback"] <= 0.35 * len(load.status)


def test_wrong_answers_are_caught_in_shadow_before_any_caller_gets_one(server: Server, stable: str) -> None:
    sent = send(server, RATE, 45)
    act("start", to="flips", guards=["drift<=0.01"], shadow=100.0, **{**QUICK, "min_sample": 2000})
    seen = watch(server, 60, is_done)
    load = sent.result()
    last = seen[-1][1].history[-1]
    assert (last.what, last.percent) == ("rolled_back", 0.0)
    assert "drift" in last.why
    assert last.figures["requests"] == 0
    assert answered_by(load) == {"": len(load.status)}
    assert load.num_failed == 0


def test_a_version_that_cannot_be_loaded_is_given_up(server: Server, stable: str) -> None:
    sent = send(server, RATE, 10)
    act("start", to="broken", guards=GUARDS, **QUICK)
    seen = watch(server, 120, is_done)
    last = seen[-1][1].history[-1]
    assert last.what == "rolled_back"
    assert "cannot be loaded" in last.why
    assert "/" not in last.why
    assert sent.result().num_failed == 0


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"to": "9"}, NotFound, "no version '9'; there are: 1, 2"),
        ({"to": "2", "guards": ["p99<1.2x"]}, ConfigRejected, "guards look like"),
        ({"to": "1", "guards": ["drift<=0.01"]}, ConfigRejected, "say --shadow"),
        ({"to": "1", "guards": ["accuracy>=-1%"]}, ConfigRejected, "feedback"),
        ({"to": "1", "steps": [50, 10]}, HeadraceError, "must rise and end with 100"),
        ({"to": "1", "steps": []}, HeadraceError, "steps"),
        ({"to": "1", "interval_s": 0}, HeadraceError, "interval_s"),
        ({"to": "1", "surprise": 1}, HeadraceError, "surprise"),
        ({}, HeadraceError, "'to'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_has_changed(
    server: Server, stable: str, arguments: dict[str, Any], error: type[Exception], why: str
) -> None:
    revision = act("status")["revision"]
    with pytest.raises(error, match=why):
        act("start", **arguments)
    assert act("status")["revision"] == revision


def test_a_second_rollout_is_refused_while_one_runs(server: Server, stable: str) -> None:
    act("start", to="1" if stable != "1" else "2", guards=[], **QUICK)
    with pytest.raises(Conflict, match="is under way"):
        act("start", to="slow", guards=[], **QUICK)
    act("rollback")


def test_a_rollback_is_in_force_everywhere_within_a_second(server: Server, stable: str) -> None:
    other = "1" if stable != "1" else "2"
    act("start", to=other, guards=[], **{**QUICK, "steps": [50, 100], "min_sample": 100_000})
    watch(server, 30, gets(other, 0.5))
    sent = send(server, RATE, 8)
    time.sleep(4)
    act("rollback")
    at = time.time() - sent.began
    load = sent.result()
    late = load.intended[[header.get("headrace-variant") == "candidate" for header in load.headers]]
    assert len(late) > 50
    assert late.max() <= at + 1.0
    assert load.num_failed == 0


def answering(server: Server, caller: str) -> set[str]:
    """The versions that answer a caller by HTTP and by gRPC, asked several times."""
    assert server.config.grpc is not None
    tensor = triton_grpc.InferInput("x", [1, 64], "FP32").set_data_from_numpy(inputs(1))
    told = {CALLER: caller}
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.config.grpc.port}") as client:
        found = {client.infer(MODEL, [tensor], headers=told).get_response().model_version for _ in range(3)}
    tensor = triton_http.InferInput("x", [1, 64], "FP32").set_data_from_numpy(inputs(1))
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.config.http.port}") as client:
        answers = [client.infer(MODEL, [tensor], headers=told) for _ in range(3)]
    return found | {answer.get_response()["model_version"] for answer in answers}


def test_a_caller_meets_the_same_version_each_time_by_every_way_in(server: Server, stable: str) -> None:
    other = "1" if stable != "1" else "2"
    act("start", to=other, guards=[], **{**QUICK, "steps": [50, 100], "min_sample": 100_000})
    watch(server, 30, gets(other, 0.5))
    time.sleep(1.0)
    found = [answering(server, f"caller {number}") for number in range(12)]
    assert all(len(versions) == 1 for versions in found)
    assert set.union(*found) == {stable, other}
    act("rollback")


def headrace(server: Server, *arguments: str) -> str:
    command = [sys.executable, "-m", "deployments.cli", *arguments, "--address", server.ray_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return f"{done.returncode}: {done.stdout}{done.stderr}"


def test_the_commands_say_what_they_do(server: Server, stable: str) -> None:
    other = "1" if stable != "1" else "2"
    plan = ["--steps", "50,100", "--interval", "2s", "--guard", "errors<=+0.5%", "--min-sample", "100000"]
    told = headrace(server, "rollout", "start", MODEL, "--to", other, *plan)
    assert told.startswith(f"0: {MODEL}: version {stable} 100%"), told
    watch(server, 30, gets(other, 0.5))
    send(server, RATE, 3).result()
    time.sleep(1.5)
    told = headrace(server, "rollout", "status", MODEL)
    assert f"version {other} 50%" in told
    assert "errors<=+0.5%" in told
    assert f"3: headrace: a rollout of '{MODEL}'"[3:] in headrace(
        server, "ab", "start", MODEL, "--variants", f"{stable}=50,{other}=50"
    )
    assert "rolled back: enough seen" in headrace(
        server, "rollout", "rollback", MODEL, "--why", "enough seen"
    )
    assert "enough seen" in headrace(server, "rollout", "history", MODEL)
    told = headrace(server, "rollout", "start", MODEL, "--to", "99")
    assert told.startswith(f"2: headrace: model '{MODEL}' has no version '99'; there are: 1, 2"), told


def test_a_damaged_file_is_held_as_it_was_and_told(server: Server, stable: str) -> None:
    path = Path(server.config.repository) / MODEL / FILE
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        time.sleep(1.0)
        assert "damaged" in act("status")["problem"]
        with pytest.raises(HeadraceError, match="damaged"):
            act("start", to="1", guards=[], **QUICK)
        assert send(server, RATE, 2).result().num_failed == 0
    finally:
        path.write_bytes(whole)
    time.sleep(1.0)
    assert act("status")["problem"] == ""
    assert act("status")["stable"] == stable


@pytest.mark.parametrize(
    "title", ["ServeReplica:headrace-monitor", "ServeReplica:headrace:Gateway", "ServeController"]
)
def test_whatever_process_is_killed_the_rollout_goes_on(server: Server, stable: str, title: str) -> None:
    other = "1" if stable != "1" else "2"
    sent = send(server, RATE, 30)
    act("start", to=other, guards=GUARDS, **{**QUICK, "steps": [20, 60, 100], "interval_s": 2})
    watch(server, 30, gets(other, 0.2))
    kill(title)
    seen = watch(server, 60, is_done)
    assert seen[-1][1].stable == other
    assert seen[-1][1].history[-1].what == "finished"
    assert sent.result().num_failed == 0


def ask_admin(
    server: Server, body: dict[str, Any] | None = None, token: str | None = SECRET, path: str = ""
) -> tuple[int, dict[str, Any], dict[str, str]]:
    request = urllib.request.Request(f"{server.url}/v2/admin/models/{MODEL}/rollout{path}")
    if body is not None:
        request.data = json.dumps(body).encode()
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as err:
        return err.code, json.load(err), dict(err.headers)


def test_the_admin_api_does_what_the_command_does(server: Server, stable: str) -> None:
    other = "1" if stable != "1" else "2"
    status, state, _ = ask_admin(server)
    assert (status, state["stable"], state["rollout"]) == (200, stable, None)
    status, state, _ = ask_admin(server, {"action": "start", "to": other, "guards": [], **QUICK})
    assert (status, state["rollout"]["candidate"]) == (200, other)
    assert ask_admin(server, {"action": "start", "to": other})[0] == 409
    assert ask_admin(server, {"action": "pause", "why": "lunch"})[1]["rollout"]["paused"] == "lunch"
    assert ask_admin(server, {"action": "rollback"})[1]["rollout"] is None
    assert ask_admin(server, path="/history")[1]["events"][-1]["what"] == "rolled_back"


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"action": "start", "to": "9"}, 404, "no version '9'"),
        ({"action": "start"}, 400, "'to'"),
        ({"action": "explode"}, 400, "there are: status, history, start"),
        ({"to": "2"}, 400, "must name what to do"),
        ({"action": "pause"}, 409, "no rollout"),
        ({"action": "start", "to": ["2"]}, 400, "to"),
        ({"action": "test", "variants": {"1": "half"}}, 400, "variants"),
        ({"action": "test", "variants": 3}, 400, "variants"),
        ({"action": "pause", "why": 5}, 400, "why"),
    ],
)
def test_a_mistake_in_the_admin_api_is_told(
    server: Server, stable: str, body: dict[str, Any], status: int, why: str
) -> None:
    found, document, _ = ask_admin(server, body)
    assert found == status
    assert why in document["error"]


def test_without_the_token_nobody_is_let_in_and_nothing_is_told(server: Server, stable: str) -> None:
    answers = {
        json.dumps([status, document])
        for token in (None, "", "wrong", SECRET[:-1], SECRET + "x", "ü")
        for status, document, _ in [ask_admin(server, {"action": "rollback"}, token)]
    }
    assert answers == {
        json.dumps([401, {"error": "this takes the admin token: send it as Authorization: Bearer TOKEN"}])
    }
    assert ask_admin(server, token=None)[2]["www-authenticate"] == "Bearer"
    assert act("status")["stable"] == stable


def test_versions_side_by_side_get_their_shares_and_are_compared(server: Server, stable: str) -> None:
    other = "1" if stable != "1" else "2"
    act("test", variants={stable: 75.0, other: 25.0})
    deadline = time.monotonic() + 30
    while act("status")["trial"]["phase"] != "running" and time.monotonic() < deadline:
        time.sleep(0.2)
    sent = send(server, RATE, 6)
    load = sent.result()
    time.sleep(2.5)
    assert load.num_failed == 0
    assert abs(answered_by(load)["candidate"] / len(load.status) - 0.25) < 0.05
    seen = act("status")["seen"]
    assert seen["versions"][other]["requests"] > 60
    assert np.isfinite(seen["versions"][other]["p50"])
    assert f"No verdict yet on {other}" in seen["verdict"]
    assert act("end")["stable"] == stable
