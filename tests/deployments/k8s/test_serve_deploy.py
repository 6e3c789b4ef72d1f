"""What KubeRay would hand to Ray Serve is deployed by `serve deploy` on a real cluster, and answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from redis import Redis

from deployments.admin import TOKEN as ADMIN_TOKEN
from deployments.flags import Ports, serve_flags
from deployments.k8s.files import render
from deployments.k8s.options import Options
from deployments.k8s.plan import AGENT_PORT, CACHE_SECRET, REPOSITORY
from deployments.k8s.serve_config import CPU_NODE, WORKER_NODE
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from headrace import guard
from headrace.config import HttpConfig, load_config
from tests.deployments.k8s.kustomize import built, only
from tests.deployments.k8s.queries import NEEDS_AN_EVENT, queried
from tests.deployments.k8s.redis_pod import running_redis
from tests.deployments.k8s.samples import example, example_in
from tests.onnx_models import publish_all

TEMPORARY = tempfile.gettempdir()
TOKEN = "0123456789abcdef" * 4
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "p@ss/word:1"  # with what a URL would have to quote
ADMIN = "a token of the tests"
PATIENCE_S = 120.0
CONFIG = """
repository: models
gateways: 2
models:
  double: {cache: true, cache_shared: always}
  far: {placement: replicas, num_gpus: 1.0, autoscaling: {min_replicas: 1, max_replicas: 2}}
  lookup: {placement: replicas}
"""


def read_only(command: list[str]) -> list[str]:
    """The command where nothing can be written but the temporary folder and shared memory, as in our pods;
    as it is where this process may not arrange that."""
    wanted = f"mount --make-rprivate / && mount --bind {TEMPORARY} {TEMPORARY} && mount -o remount,ro,bind /"
    wrapped = [shutil.which("unshare") or "unshare", "--mount", "sh", "-c", f'{wanted} && exec "$@"', "sh"]
    try:
        subprocess.run([*wrapped, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        return command
    return [*wrapped, *command]


@dataclass(frozen=True, slots=True)
class Head:
    """Ray as a process of its own: what it is told, and where it tells."""

    environment: dict[str, str]
    pid: int
    dashboard: str
    agent: str
    metrics: str

    def applications(self) -> dict[str, Any]:
        """As KubeRay asks for them."""
        request = urllib.request.Request(f"{self.dashboard}/api/serve/applications/", headers=BEARER)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)["applications"]
        return found

    def deploy(self, file: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ray.serve.scripts", "deploy", str(file), "--address", self.dashboard],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Deployed:
    head: Head
    port: int
    redis: Redis

    def act(self, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """By the admin API, of the model "double"."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v2/admin/models/double/rollout")
        request.add_header("authorization", f"Bearer {ADMIN}")
        if body is not None:
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def ask(self, model: str, x: np.ndarray) -> Load:
        request = infer_request("test", model, {"x": x})
        return asyncio.run(closed_loop("127.0.0.1", self.port, [request], 1))


@contextmanager
def ray_head(http: HttpConfig, extra: dict[str, str]) -> Iterator[Head]:
    """With the dashboard's API and a token, as KubeRay starts it."""
    gcs, client, dashboard, agent, metrics, *others = free_ports(9)
    folder = Path(tempfile.mkdtemp(prefix="headrace-"))  # short: HAProxy's socket lies in it
    environment = {
        **os.environ,
        **serve_flags(http, None, folder, Ports(*others)),
        "PYTHONPATH": str(ROOT),
        "HOME": TEMPORARY,
        "PYTHONDONTWRITEBYTECODE": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        **extra,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=8"]
    command += [
        "--num-gpus=2",
        f'--resources={{"{CPU_NODE}": 8, "{WORKER_NODE}": 1}}',
        "--node-ip-address=127.0.0.1",
    ]
    command += [f"--port={gcs}", f"--ray-client-server-port={client}", f"--dashboard-port={dashboard}"]
    command += ["--include-dashboard=true", f"--dashboard-agent-listen-port={agent}"]
    command += [f"--metrics-export-port={metrics}", "--disable-usage-stats"]
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            guard.guarded(signal.SIGTERM, read_only(command)),
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        host = "http://127.0.0.1"
        yield Head(environment, process.pid, f"{host}:{dashboard}", f"{host}:{agent}", f"{host}:{metrics}")
    finally:
        # Nothing in it is worth an orderly end, which takes half a minute.
        started = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(20)
        psutil.wait_procs(started, 20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    publish_all(folder / "models")
    (folder / "serve.yaml").write_text(CONFIG)
    rendered = render(load_config(folder / "serve.yaml"), Options())
    documents = built(rendered.files, rendered.apply)
    service = only(documents, "RayService", "headrace")
    ((file, text),) = only(documents, "ConfigMap", "headrace-config")["data"].items()
    port, redis_port = free_ports(2)
    cache = only(documents, "Deployment", "headrace-cache")
    with (
        running_redis(cache, documents, folder, redis_port, PASSWORD) as redis,
        ray_head(HttpConfig(port=port), {CACHE_SECRET: PASSWORD, ADMIN_TOKEN: ADMIN}) as head,
    ):
        # Only what says where things are differs from what a cluster gets.
        settings = yaml.safe_load(service["spec"]["serveConfigV2"])
        settings["http_options"] = {"host": "127.0.0.1", "port": port}
        for application in settings["applications"]:
            application["args"]["config"] = str(folder / file)
        (folder / "deploy.yaml").write_text(yaml.safe_dump(settings))
        _until(lambda: head.applications() == {}, "the dashboard's answer")
        head.deploy(folder / "deploy.yaml")
        time.sleep(1)  # the configuration comes later than the applications that read it
        text = text.replace(REPOSITORY, str(folder / "models"))
        (folder / file).write_text(text.replace("headrace-cache:6379", f"127.0.0.1:{redis_port}"))
        _until(lambda: _is_running(head, len(settings["applications"])), "every application")
        yield Deployed(head, port, redis)


def _until(is_so: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if is_so():
                return
        time.sleep(0.3)
    raise AssertionError(f"waited in vain for {what}")


def _is_running(head: Head, count: int) -> bool:
    found = head.applications()
    states = [application["status"] for application in found.values()]
    assert "DEPLOY_FAILED" not in states, [application["message"] for application in found.values()]
    return states == ["RUNNING"] * count


def test_every_application_runs_under_its_name(deployed: Deployed) -> None:
    assert set(deployed.head.applications()) == {
        "headrace",
        "headrace-monitor",
        "headrace:far:1",
        "headrace:lookup:1",
    }


def test_all_of_it_runs_where_the_image_cannot_be_written(deployed: Deployed) -> None:
    mounts = Path(f"/proc/{deployed.head.pid}/mountinfo").read_text().splitlines()
    if mounts == Path("/proc/self/mountinfo").read_text().splitlines():
        pytest.skip("only root may mount")
    options = {fields[4]: fields[5].split(",") for fields in map(str.split, mounts)}
    assert "ro" in options["/"]


@pytest.mark.parametrize(("model", "factor"), [("double", 3), ("far", 2)])  # in the gateway, in replicas
def test_models_answer(deployed: Deployed, model: str, factor: int) -> None:
    x = np.random.default_rng(5).random((2, 7), np.float32)
    (reply,) = deployed.ask(model, x).replies
    assert reply.status == 200, reply.body
    head = int(reply.headers["inference-header-content-length"])
    assert np.array_equal(
        np.frombuffer(reply.body[head:], np.float32).reshape(x.shape), x * np.float32(factor)
    )


def test_the_password_comes_from_the_environment_and_opens_the_shared_cache(deployed: Deployed) -> None:
    deployed.ask("double", np.random.default_rng(6).random((2, 7), np.float32))
    _until(lambda: len(deployed.redis.keys("headrace:*")) > 0, "an answer in the shared cache")
    assert PASSWORD not in json.dumps(deployed.head.applications())


def test_the_probes_of_the_pods_are_answered_without_a_token(deployed: Deployed) -> None:
    service = only(example_in("overlays/gpu"), "RayService", "headrace")
    spec = service["spec"]["rayClusterConfig"]
    templates = [spec["headGroupSpec"]["template"], *(one["template"] for one in spec["workerGroupSpecs"])]
    places = {AGENT_PORT: deployed.head.agent, HttpConfig().port: f"http://127.0.0.1:{deployed.port}"}
    for template in templates:
        (container,) = template["spec"]["containers"]
        for probe in (container["livenessProbe"], container["readinessProbe"]):
            url = places[probe["httpGet"]["port"]] + probe["httpGet"]["path"]
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert answer.status == 200


def test_without_the_token_nobody_asks_the_dashboard(deployed: Deployed) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{deployed.head.dashboard}/api/serve/applications/", timeout=30)


def test_a_rollout_runs_on_what_is_rendered(deployed: Deployed) -> None:
    plan = {"to": "1", "shadow": 100.0, "guards": ["errors<=+1%"], "min_sample": 100_000}
    deployed.act({"action": "start", **plan})
    _until(lambda: deployed.act()["rollout"]["phase"] == "shadow", "the candidate's replicas")
    time.sleep(2.5)  # the first second of a step, in which the gateways follow, is not counted
    rows = np.random.default_rng(7).random((20, 1, 4), np.float32)
    for x in rows:
        assert deployed.ask("double", x).replies[0].status == 200

    def are_there() -> bool:
        seen = deployed.act()["seen"] or {"versions": {}}
        return bool(seen["versions"].get("1", {}).get("copies") == len(rows))

    _until(are_there, "the copies' answers")
    assert deployed.act({"action": "rollback"})["stable"] == "2"


def test_what_dashboards_and_alerts_ask_for_is_on_the_metrics_port(deployed: Deployed) -> None:
    for _ in range(2):  # computed, then remembered
        deployed.ask("double", np.ones((1, 3), np.float32))
    deployed.ask("lookup", np.ones((1, 3), np.float32))  # wants INT64: an error
    wanted = queried(example()) - NEEDS_AN_EVENT
    missing = set(wanted)

    def is_there() -> bool:
        with urllib.request.urlopen(f"{deployed.head.metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        missing.difference_update(re.split(r"[{ ]", line)[0] for line in lines)
        of_processes = [line for line in lines if line.startswith("ray_headrace_process_cpu_cores{")]
        assert all('application="' in line and 'deployment="' in line for line in of_processes)
        return not missing

    with contextlib.suppress(AssertionError):
        _until(is_there, "metrics", patience_s=40)
    assert not missing
