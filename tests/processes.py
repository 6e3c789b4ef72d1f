"""The headrace command as a process, and every process that comes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
_MARK = "HEADRACE_TEST_RUN"  # in the environment, which children inherit


def headrace(*arguments: str, mark: str = "", timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "deployments.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, _MARK: mark},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def offspring(mark: str) -> list[psutil.Process]:
    """The living processes that carry a mark, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def descendants(words: str, ray_address: str = "") -> list[psutil.Process]:
    """The processes below this one whose command holds these words; of one Ray cluster, if it is named.

    Others may run a server on this machine, and another module of tests in this process.
    """
    below = psutil.Process().children(recursive=True)
    if ray_address:
        port = ":" + ray_address.rpartition(":")[2]  # Ray writes the host as it likes
        (raylet,) = [process for process in below if _is_raylet(process, port)]
        below = raylet.children(recursive=True)
    return [process for process in below if words in " ".join(_command(process))]


def _is_raylet(process: psutil.Process, port: str) -> bool:
    name, *arguments = _command(process) or [""]
    addresses = [word for word in arguments if word.startswith("--gcs-address=")]
    return Path(name).name == "raylet" and any(address.endswith(port) for address in addresses)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Started:
    """The command running, what it prints, and what it started."""

    def __init__(self, process: subprocess.Popen[str], mark: str) -> None:
        self.process = process
        self._mark = mark
        self._seen: set[psutil.Process] = set()  # some processes overwrite the environment with their title
        self._lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(iter(self.process.stdout.readline, ""))

    def text(self) -> str:
        return "".join(self._lines)

    def wait_for(self, text: str, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while text not in self.text() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return text in self.text()

    def end(self, number: signal.Signals) -> int:
        """Its exit code after a signal."""
        self.commands()
        self.process.send_signal(number)
        return self.process.wait(60)

    def commands(self) -> list[str]:
        """The command lines of everything that runs because of it."""
        self._seen |= set(offspring(self._mark))
        if self.process.poll() is None:
            self._seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        found = []
        for process in self._seen:
            try:
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.NoSuchProcess:
                continue
        return found

    def left_behind(self, timeout_s: float = 30) -> list[str]:
        """What still runs after some time to go; nothing, if all is well."""
        deadline = time.monotonic() + timeout_s
        while (left := self.commands()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left


@contextmanager
def started(*arguments: str) -> Iterator[Started]:
    """The command running; ended with the block, if the test has not ended it."""
    mark = uuid.uuid4().hex
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", *arguments],
        cwd=ROOT,
        env={**environment, _MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A runner in the background may have Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield Started(process, mark)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def front(port: int) -> psutil.Process:
    """The HAProxy on this port, once a reload has left only one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [process for process in psutil.process_iter(["name"]) if _is_front(process, port)]
        if len(found) == 1:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"{len(found)} proxies listen on port {port}")


def _is_front(process: psutil.Process, port: int) -> bool:
    if process.info["name"] != "haproxy":
        return False
    try:
        connections = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(c.laddr.port == port for c in connections if c.status == psutil.CONN_LISTEN)


def front_settings(proxy: psutil.Process) -> str:
    """What a HAProxy runs with."""
    command = proxy.cmdline()
    return Path(command[command.index("-f") + 1]).read_text()
