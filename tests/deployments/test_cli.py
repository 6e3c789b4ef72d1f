"""The command as a newcomer meets it: clear errors, and nothing left behind."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

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
