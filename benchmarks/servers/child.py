"""Another server as a child process: started, waited for until it answers, and ended with all its workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.servers.base import HOST
from benchmarks.servers.environment import PROGRAMS
from benchmarks.servers.programs.raw_model import VARIABLE, Wire
from deployments.load import closed_loop
from headrace import guard
from headrace.errors import EngineUnavailable

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.2


@contextmanager
def child(
    name: str,
    command: Sequence[str],
    wire: Wire,
    port: int,
    request: bytes,
    variables: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A server that has answered `request`; EngineUnavailable, with its last words, if it never does."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        told = Path(scratch, "wire.json")
        told.write_text(json.dumps(asdict(wire)), encoding="utf-8")
        log = Path(scratch, "log")
        environment = {
            **{key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
            "PYTHONPATH": str(PROGRAMS),
            "TMPDIR": scratch,
            VARIABLE: str(told),
            **(variables or {}),
        }
        grouped = [sys.executable, "-IS", str(PROGRAMS / "group.py"), *command]
        with log.open("wb") as output:
            process = subprocess.Popen(
                guard.guarded(signal.SIGTERM, grouped),
                cwd=scratch,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which ends as a whole
            )
        try:
            _wait(name, process, port, request, log)
            yield
        finally:
            _end(process)


def _wait(name: str, process: subprocess.Popen[bytes], port: int, request: bytes, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(EngineUnavailable):
            (reply,) = asyncio.run(closed_loop(HOST, port, [request], 1)).replies
            if reply.status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
            raise EngineUnavailable(f"{name} did not start:\n" + ("\n".join(lines) or "it said nothing"))
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the group, by the id of its leader, which is our child."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
