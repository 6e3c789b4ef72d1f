"""BentoML: workers that each hold an engine and share one port, with BentoML's adaptive batching."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.servers.base import HOST, Contender, Setup, Task, all_setups, raw_requests
from benchmarks.servers.child import child
from benchmarks.servers.environment import FOLDER, PROGRAMS, environment
from deployments.ports import free_ports

NAME = "BentoML"
requests = raw_requests("/predict")


@contextmanager
def serving(task: Task, setup: Setup) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [str(environment("bentoml") / "bin" / "bentoml"), "serve", "bento_program:Model"]
    command += ["--working-dir", str(PROGRAMS), "--host", HOST, "--port", str(port)]
    variables = {
        "BENCHMARK_WORKERS": str(setup.workers),
        "BENTOML_HOME": str(FOLDER / "bentoml" / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    with child(NAME, command, task.wire(setup), port, requests(task)[0], variables):
        yield port


def contender() -> Contender:
    return Contender("bentoml", NAME, all_setups(), requests, serving)
