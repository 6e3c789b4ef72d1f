"""What Serve is told, for this machine and for another."""

from __future__ import annotations

import os
from pathlib import Path

from deployments.flags import Installed, Ports, serve_flags
from headrace.config import GrpcConfig, HttpConfig

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
