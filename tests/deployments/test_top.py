"""headrace top shows what a server tells: once, as JSON, and live until q."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from deployments.load import infer_request
from deployments.ports import free_ports
from tests.conftest import Running
from tests.deployments.test_asking import answering
from tests.processes import ROOT, headrace

COMMAND = [sys.executable, "-m", "deployments.cli", "top"]


class Terminal:
    """The command in a terminal of its own, and what it has drawn there."""

    def __init__(self, *arguments: str) -> None:
        self._leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "60"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        self.said = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self._leader, 65536):
                self.said += data
        except OSError:
            return  # the terminal is gone with the process

    def press(self, key: str) -> None:
        os.write(self._leader, key.encode())

    def wait_for(self, text: str, timeout_s: float = 30.0) -> bool:
        deadline = time.monotonic() + timeout_s
        while text not in self.said.decode("utf-8", "replace") and time.monotonic() < deadline:
            time.sleep(0.05)
        return text in self.said.decode("utf-8", "replace")


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    found = Terminal(*arguments)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait(10)


def test_one_screen_is_printed_for_scripts(running: Running) -> None:
    x = np.ones((1, 4), np.float32)
    running.ask([infer_request("test", "slow", {"x": x})] * 5)
    done = headrace("top", "--once", "--url", running.server.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("headrace ")
    assert "2 gateways" in done.stdout
    assert "slow/1" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_the_document_is_printed_as_it_is(running: Running) -> None:
    done = headrace("top", "--json", "--url", running.server.url)
    told = json.loads(done.stdout)
    assert told["gateways"] == 2
    assert "double" in [model["name"] for model in told["models"]]
    by_handle = headrace("top", "--json", "--address", running.server.ray_address)
    assert by_handle.returncode == 0, by_handle.stderr
    assert json.loads(by_handle.stdout).keys() == told.keys()


def test_it_is_live_until_q_and_m_goes_to_the_next_model(running: Running) -> None:
    with terminal("--url", running.server.url, "--every", "0.2", "--model", "double") as screen:
        assert screen.wait_for("requests/s"), screen.said
        assert screen.wait_for("\x1b[?1049h")  # the alternate screen
        screen.press("m")
        assert screen.wait_for("far: nothing was answered") or screen.wait_for("far/1"), screen.said
        screen.press("q")
        assert screen.process.wait(20) == 0
        assert screen.wait_for("\x1b[?1049l")


@pytest.mark.parametrize(
    ("body", "told"),
    [(b"{}", "not as this release knows them"), (b"[]", "no JSON object")],
)
def test_another_kind_of_server_is_told(body: bytes, told: str) -> None:
    with answering(200, body) as url:
        done = headrace("top", "--once", "--url", url)
    assert done.returncode == 4
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_without_figures_is_told() -> None:
    with answering(404, b'{"error": "no such path"}') as url:
        done = headrace("top", "--once", "--url", url)
    assert done.returncode == 2
    assert "this server tells no figures: no such path" in done.stderr


def test_an_unknown_model_is_told_with_those_there_are(running: Running) -> None:
    done = headrace("top", "--once", "--url", running.server.url, "--model", "duoble")
    assert done.returncode == 2
    assert "no model 'duoble'; served here: " in done.stderr


def test_no_server_is_one_line() -> None:
    (port,) = free_ports(1)
    done = headrace("top", "--url", f"http://127.0.0.1:{port}")
    assert done.returncode == 2
    assert f"nothing answers at 127.0.0.1:{port}" in done.stderr
