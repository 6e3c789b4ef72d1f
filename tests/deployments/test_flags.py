"""What Ray is started with on the nodes of a cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deployments.grpc import BIND_HOST
from tests.processes import ROOT, headrace

NAME = "RAY_SERVE_ENABLE_HA_PROXY"


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
    assert found[NAME] == "1"
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert found[BIND_HOST] == "0.0.0.0"  # HAProxies of other nodes have to reach the gateways here
    assert Path(found["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent.is_dir()
