"""A task for a model that doubles, and a small real server for it that is started as other servers are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.servers.base import Contender, Setup, Task, raw_requests
from benchmarks.servers.child import child
from deployments.ports import free_ports
from tests.onnx_models import publish_all

PROGRAM = """
import signal, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from raw_model import RawModel, Wire

port, offset, pids = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
wire = Wire.from_environment()
if wire.batch == 16:
    sys.exit("no batches of 16 here")
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
worker = subprocess.Popen([sys.executable, "-c", stubborn])
pids.write_text(str(worker.pid))
model = RawModel(wire)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        row = model.read(self.rfile.read(int(self.headers["content-length"])))
        (answer,) = model.run([row + row.dtype.type(offset)])
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass

ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
SETUPS = [Setup(1, 1, 1), Setup(1, 1, 16)]


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    repository = publish_all(tmp_path_factory.mktemp("models"))
    random = np.random.default_rng(0)
    rows = [random.standard_normal((1, 3 + number % 5)).astype(np.float32) for number in range(80)]
    return Task(repository.open("double", "1"), [{"x": row} for row in rows], tensor="x", output="y")


Small = Callable[..., Contender]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A contender; its answers are wrong with an offset, it notes the id of its worker in `pids`."""
    program = tmp_path / "small_program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    requests = raw_requests("/")

    def make(offset: float = 0.0, name: str = "small", pids: Path = tmp_path / "pids") -> Contender:
        @contextmanager
        def serving(task: Task, setup: Setup) -> Iterator[int]:
            (port,) = free_ports(1)
            command = [sys.executable, str(program), str(port), str(offset), str(pids)]
            with child(name, command, task.wire(setup), port, requests(task)[0]):
                yield port

        start: Callable[[Task, Setup], AbstractContextManager[int]] = serving
        return Contender(name, name, SETUPS, requests, start)

    return make
