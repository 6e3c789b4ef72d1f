from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_STARTING = """
import ray
from deployments.cluster import LocalCluster
from deployments.ports import free_ports
from headrace.config import HttpConfig

with LocalCluster(HttpConfig(port=free_ports(1)[0]), num_cpus=1) as cluster:
    print("nodes:", len(ray.nodes()))
"""


@pytest.mark.parametrize("mode", [None, "token"])
def test_a_cluster_starts_where_an_earlier_use_of_ray_left_a_token(mode: str | None, tmp_path: Path) -> None:
    folder = tmp_path / ".ray"
    folder.mkdir()
    (folder / "auth_token").write_text("0" * 64)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path)} | ({} if mode is None else {"RAY_AUTH_MODE": mode})
    done = subprocess.run(
        [sys.executable, "-c", _STARTING],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=environment,
    )
    assert "nodes: 1" in done.stdout, done.stderr[-2000:]
