"""The headrace command as a process, and the processes that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
SERVERS = {"raylet", "gcs_server", "haproxy", "valkey-server"}  # and what Ray calls "ray::..."


def headrace(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def servers() -> set[int]:
    """The server processes on this machine."""
    return {
        process.pid
        for process in psutil.process_iter(["name", "status"])
        if (process.info["name"] in SERVERS or process.info["name"].startswith("ray::"))
        and process.info["status"] != psutil.STATUS_ZOMBIE
    }


def wait_until_gone(before: set[int], timeout_s: float = 30) -> set[int]:
    deadline = time.monotonic() + timeout_s
    while (left := servers() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Output]]:
    """The command running; ended with the block, if the test has not ended it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A runner in the background may have Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process, Output(process)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


class Output:
    """What a process prints, read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines.extend(iter(self._process.stdout.readline, ""))

    def text(self) -> str:
        return "".join(self._lines)

    def wait_for(self, text: str, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while text not in self.text() and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return text in self.text()
