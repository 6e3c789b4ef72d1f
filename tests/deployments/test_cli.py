"""The command as a newcomer meets it: clear errors, and nothing left behind."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from deployments.load import infer_request
from deployments.ports import free_ports
from tests.conftest import Running
from tests.onnx_models import publish_all
from tests.processes import headrace, offspring, started

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    publish_all(tmp_path / "models")
    file = tmp_path / "serve.yaml"
    (port,) = free_ports(1)
    file.write_text(
        f"repository: models\ngateways: 1\nhttp: {{port: {port}}}\nmodels:\n  double: {{versions: ['1']}}\n"
    )
    return file


def test_a_wrong_configuration_is_one_clear_message(config: Path) -> None:
    config.write_text(config.read_text().replace("gateways", "gatways"))
    done = headrace("serve", str(config))
    assert done.returncode == 2
    assert "unknown key 'gatways'" in done.stderr
    assert "did you mean 'gateways'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_found_before_anything_starts(config: Path) -> None:
    config.write_text(config.read_text().replace("double", "duoble"))
    done = headrace("serve", str(config), mark="no such model")
    assert done.returncode == 2
    assert "no model 'duoble'" in done.stderr
    assert "double" in done.stderr
    assert offspring("no such model") == []


def test_a_taken_port_is_told_with_its_holder(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = headrace("serve", str(config), "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} is held by" in done.stderr
    assert f"(process {psutil.Process().pid})" in done.stderr


def test_a_taken_grpc_port_is_told_with_its_holder(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = headrace("serve", str(config), "--grpc-port", str(port))
    assert done.returncode == 2
    assert f"port {port} is held by" in done.stderr
    assert "another port (grpc.port, --grpc-port)" in done.stderr


def test_one_port_for_both_protocols_is_refused(config: Path) -> None:
    done = headrace("serve", str(config), "--port", "9000", "--grpc-port", "9000")
    assert done.returncode == 2
    assert "grpc.port and http.port are both 9000" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_and_leaves_no_process_behind(config: Path, number: signal.Signals) -> None:
    with started("serve", str(config)) as run:
        assert run.wait_for("Ctrl-C ends it", 90), run.text()
        url = run.text().partition("at ")[2].partition(";")[0]
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:
            assert json.load(answer)["ready"] is True
        commands = "\n".join(run.commands())
        assert all(name in commands for name in ("raylet", "gcs_server", "haproxy", "valkey-server"))
        assert run.end(number) == 0
        assert run.left_behind() == []


def test_ctrl_c_while_ray_starts_leaves_no_process_behind(config: Path) -> None:
    with started("serve", str(config)) as run:
        deadline = time.monotonic() + 60
        while not any("gcs_server" in command for command in run.commands()):
            assert time.monotonic() < deadline, run.text()
            time.sleep(0.1)
        assert run.end(signal.SIGINT) == 130
        assert run.left_behind() == []


def test_a_killed_server_takes_ray_and_its_cache_with_it(config: Path) -> None:
    with started("serve", str(config)) as run:
        assert run.wait_for("Ctrl-C ends it", 90), run.text()
        run.end(signal.SIGKILL)
        assert run.left_behind(timeout_s=90) == []  # Ray takes its time when nobody ends Serve first


def test_status_tells_applications_and_versions(running: Running) -> None:
    done = headrace("status", "--address", running.server.ray_address, "--json")
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    assert state["models"]["double"] == ["1", "2"]
    assert state["addresses"] == [f"http://{running.http}", f"grpc://{running.grpc}"]
    assert state["applications"]["headrace"]["status"] == "RUNNING"
    assert state["applications"]["headrace:far:1"]["deployments"]["Model"]["RUNNING"] >= 1


def test_a_configuration_can_join_a_running_cluster(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(json.dumps(running.server.config.model_dump()))
    done = headrace("serve", str(file), "--address", running.server.ray_address)
    assert done.returncode == 0, done.stderr
    said = done.stdout.replace("\n", " ")
    assert f"deployed on {running.server.ray_address}" in said
    assert f"grpc://{running.grpc}" in said


def test_status_without_a_cluster_says_how_to_start_one() -> None:
    (port,) = free_ports(1)
    done = headrace("status", "--address", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert "headrace serve CONFIG" in done.stderr


def test_doctor_checks_this_machine() -> None:
    done = headrace("doctor")
    assert "onnxruntime" in done.stdout
    assert done.returncode == (1 if "!!" in done.stdout else 0)


def test_optimize_tells_of_a_wrong_goal_and_a_missing_recipe(tmp_path: Path) -> None:
    done = headrace("optimize", str(tmp_path / "none.py"), "--out", str(tmp_path / "models" / "m"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    recipe = ROOT / "examples" / "minilm" / "recipe.py"
    done = headrace("optimize", str(recipe), "--out", str(tmp_path / "models" / "m"), "--goal", "max_dorp=1")
    assert done.returncode == 2
    assert "max_drop=NUMBER" in done.stderr


def test_a_model_is_tuned_and_then_served_so(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("['1']", "['1'], batching: {max_batch: 4}"))
    shapes = tmp_path / "shapes.jsonl"
    shapes.write_text('{"sizes": {"length": 5}, "count": 3}\n{"sizes": {"length": 50}}\n')
    options = (
        "--shapes",
        str(shapes),
        "--seconds",
        "1",
        "--buckets",
        "2",
        "--json",
        str(tmp_path / "t.json"),
    )
    done = headrace("tune", "double", "--config", str(config), *options)
    assert done.returncode == 0, done.stderr
    assert "chosen" in done.stdout
    told = json.loads((tmp_path / "t.json").read_text())["tuned"]
    assert (told["instances"], told["max_batch"]) == (1, 4)
    assert told["buckets"] == [{"length": 5}, {"length": 50}]
    with started("serve", str(config)) as run:
        assert run.wait_for("other Ray jobs", 90), run.text()
        threads = f"{told['threads']} thread"
        assert f"double/1: 1 x {threads}" in run.text()
        assert "as tuned: threads, grouping" in run.text()
        assert "given: max_batch" in run.text()
        assert run.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["double"], "either --config FILE or --repository FOLDER"),
        (["duoble", "--config", "CONFIG"], "no model 'duoble' in the configuration; it has: double"),
        (["duoble", "--repository", "MODELS"], "no model 'duoble'; there are: counted, double"),
        (["double/9", "--repository", "MODELS"], "no version '9'; it has: 1, 2"),
        (["double", "--repository", "MODELS"], "name a file of them by --shapes"),
        (["double", "--repository", "MODELS", "--shapes", "nowhere"], "no file of shapes nowhere"),
        (["double", "--config", "nowhere"], "no configuration file nowhere"),
        (
            ["double", "--config", "CONFIG", "--engine", "tensorrt"],
            "tune chooses among onnxruntime and openv",
        ),
        (["double", "--config", "CONFIG", "--engine", "abacus"], "engine 'abacus' is unknown"),
    ],
)
def test_tune_tells_what_is_wrong(config: Path, arguments: list[str], told: str) -> None:
    places = {"CONFIG": str(config), "MODELS": str(config.parent / "models")}
    done = headrace("tune", *(places.get(word, word) for word in arguments))
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_recorded_shapes_are_those_of_all_gateways(running: Running) -> None:
    rng = np.random.default_rng(3)
    requests = [infer_request("test", "far", {"x": rng.random((2, 77), np.float32)}) for _ in range(40)]
    assert running.ask(requests, 8).num_failed == 0
    done = headrace("shapes", "far", "--address", running.server.ray_address)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"sizes": {"length": 77}, "count": 80} in found


def test_shapes_of_a_model_that_is_not_served_are_asked_for_in_vain(running: Running) -> None:
    done = headrace("shapes", "faar", "--address", running.server.ray_address)
    assert done.returncode == 2
    assert "no model 'faar'; served here:" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_tells_how_each_version_runs(running: Running) -> None:
    done = headrace("status", "--address", running.server.ray_address, "--json")
    setup = json.loads(done.stdout)["setups"]["double"]["2"]
    assert (setup["instances"], setup["threads"], setup["grouping"]) == (2, 1, "nearest")
    done = headrace("status", "--address", running.server.ray_address)
    assert "double/2: 2 x 1 thread, grouping nearest, batches of up to 8" in done.stdout


def test_what_is_remembered_is_told_and_forgotten_on_demand(running: Running) -> None:
    x = np.full((1, 9), 91.0, np.float32)
    running.ask([infer_request("test", "double", {"x": x})] * 16, 4)
    time.sleep(0.2)
    address = running.server.ray_address
    told = json.loads(headrace("cache", "stats", "--json", "--address", address).stdout)
    assert told["shared"]["answers"]["double/2"] >= 1
    assert len(told["gateways"]) == 2
    assert sum(entry["answers"] for entry in told["gateways"]) >= 1
    assert "double/2" in headrace("cache", "stats", "--address", address).stdout
    done = headrace("cache", "purge", "--model", "double", "--address", address)
    assert "answers forgotten" in done.stdout, done.stderr
    told = json.loads(headrace("cache", "stats", "--json", "--address", address).stdout)
    assert "double/2" not in told["shared"]["answers"]


def test_one_answer_is_forgotten_by_its_key(running: Running) -> None:
    ask = infer_request("test", "double", {"x": np.full((1, 9), 92.0, np.float32)})
    running.ask([ask])
    time.sleep(0.2)
    done = headrace("cache", "purge", "--key", "0" * 64, "--address", running.server.ray_address)
    assert "0 answers forgotten" in done.stdout, done.stderr
    assert headrace("cache", "purge", "--key", "short").returncode == 2


def test_requests_are_noted_and_replayed(running: Running, tmp_path: Path) -> None:
    log, page = tmp_path / "log.csv", tmp_path / "page.html"
    bodies = [
        infer_request("test", "double", {"x": np.full((1, 5), 1.0 + number % 7, np.float32)})
        for number in range(200)
    ]
    options = ["--address", running.server.ray_address, "--seconds", "6", "--out", str(log)]
    with ThreadPoolExecutor(1) as pool:
        noting = pool.submit(headrace, "cache", "record", *options)
        while not noting.done() and (not log.exists() or len(log.read_text().splitlines()) < 50):
            running.ask(bodies, 4)
        done = noting.result()
    assert re.search(r"[1-9]\d* requests noted", done.stdout), done.stderr
    lines = log.read_text().splitlines()
    assert lines[0] == "time,key,bytes,seconds"
    assert len({line.split(",")[1] for line in lines[1:]}) == 7
    done = headrace("cache", "simulate", str(log), "--page", str(page), "--ttl", "60", "--ttl", "600")
    assert done.returncode == 0, done.stderr
    assert "Hits" in done.stdout
    assert page.read_text().startswith("<!doctype html>")


def test_a_wrong_log_is_told_with_its_line(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("time,key\nsoon,a\n")
    done = headrace("cache", "simulate", str(log))
    assert done.returncode == 2
    assert "line 2 of the log" in done.stderr
    assert "Traceback" not in done.stderr
    assert headrace("cache", "simulate", str(tmp_path / "gone")).returncode == 2


@pytest.mark.parametrize("options", [[], ["--all", "--model", "double"]], ids=["nothing", "both"])
def test_a_purge_has_to_say_of_what(options: list[str]) -> None:
    done = headrace("cache", "purge", *options)
    assert done.returncode == 2
    assert "--tenant" in done.stderr
