"""LitServe: one process for each engine, one for each HTTP server, a queue between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.servers.base import Contender, Setup, Task, all_setups, raw_requests
from benchmarks.servers.child import child
from benchmarks.servers.environment import PROGRAMS, environment, python
from deployments.ports import free_ports

NAME = "LitServe"
requests = raw_requests("/predict")


@contextmanager
def serving(task: Task, setup: Setup) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [str(python(environment("litserve"))), str(PROGRAMS / "lit_program.py")]
    command += [str(port), str(setup.workers)]
    with child(NAME, command, task.wire(setup), port, requests(task)[0]):
        yield port


def contender() -> Contender:
    return Contender("litserve", NAME, all_setups(), requests, serving)
