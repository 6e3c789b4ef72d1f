"""What Ray is started with: on this machine, on another, and on the nodes of a cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deployments.flags import Installed, Ports, serve_flags
from deployments.grpc import BIND_HOST
from headrace.config import GrpcConfig, HttpConfig
from tests.processes import ROOT, headrace

PORTS = Ports(1, 2, 3, 4)
ELSEWHERE = Installed(Path("/app"), "/opt/python", "/opt/haproxy", threads=3)


def test_on_this_machine_every_path_is_there() -> None:
    flags = serve_flags(HttpConfig(), GrpcConfig(), Path("/run/folder"), PORTS)
    for name in ("HEADRACE_HAPROXY", "HEADRACE_FRONT", "HEADRACE_GUARD", "HEADRACE_PYTHON"):
        assert Path(flags[name]).is_file()
    assert os.access(flags["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)


def test_for_another_machine_no_path_is_of_this_one() -> None:
    flags = serve_flags(HttpConfig(), GrpcConfig(), Path("/run/folder"), PORTS, installed=ELSEWHERE)
    paths = {value for value in flags.values() if value.startswith("/")}
    assert all(path.startswith(("/app/", "/opt/", "/run/folder")) for path in paths)
    assert flags["RAY_SERVE_HAPROXY_BINARY_PATH"] == "/app/deployments/haproxy.sh"
    assert flags["HEADRACE_GUARD"] == "/app/headrace/guard.py"
    assert flags["HEADRACE_HAPROXY"] == "/opt/haproxy"
    assert flags["RAY_SERVE_HAPROXY_NBTHREAD"] == "3"


def test_both_machines_get_the_same_settings_otherwise() -> None:
    here = serve_flags(HttpConfig(), GrpcConfig(), Path("/run/folder"), PORTS)
    there = serve_flags(HttpConfig(), GrpcConfig(), Path("/run/folder"), PORTS, installed=ELSEWHERE)
    assert here.keys() == there.keys()
    differ = {name for name in here if here[name] != there[name]}
    assert differ <= {name for name in there if there[name].startswith("/")} | {"RAY_SERVE_HAPROXY_NBTHREAD"}


def test_a_shell_takes_the_flags_of_a_node(tmp_path: Path) -> None:
    config = tmp_path / "headrace.yaml"
    config.write_text("http: {host: 0.0.0.0}\ngrpc: {}\nmodels: {mine: {}}\n")
    done = headrace("flags", str(config))
    assert done.returncode == 0, done.stderr
    bare = {"PATH": os.environ["PATH"]}
    said = subprocess.run(
        ["sh", "-c", f"{done.stdout}\nenv"], env=bare, capture_output=True, text=True, check=True
    )
    found = dict(line.split("=", 1) for line in said.stdout.splitlines())
    assert found["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert found[BIND_HOST] == "0.0.0.0"  # HAProxies of other nodes have to reach the gateways here
    assert Path(found["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent.is_dir()
