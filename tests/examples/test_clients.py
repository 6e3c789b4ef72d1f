"""The clients that a newcomer copies, against the real encoder on a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Running

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritonclient_finds_the_sentence_that_means_the_same(running: Running, protocol: str) -> None:
    module, target = {
        "http": ("examples.triton_client", running.http),
        "grpc": ("examples.triton_grpc_client", running.grpc),
    }[protocol]
    lines = run(module, target).splitlines()
    assert max(lines) == lines[0], lines
    assert lines[0].endswith("Our refund policy")


def test_a_second_ray_job_asks_by_handle(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "handle.json"
    run(
        "examples.handle_client",
        *("--address", running.server.ray_address, "--messages", "40", "--json", str(file)),
    )
    result = json.loads(file.read_bytes())
    assert result["failed"] == 0
    assert len(result["digests"]) == 40
