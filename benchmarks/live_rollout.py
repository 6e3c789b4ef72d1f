"""A server with versions of a model, a constant load on it, and a rollout that is watched from outside."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import digit_versions
from benchmarks.digit_versions import MODEL
from deployments.open_loop import OpenLoad, open_loop
from deployments.ports import free_ports
from deployments.serving import Server, serving
from deployments.versions import GATEWAY_APP
from engines.artifact import Repository
from headrace.config import parse_config
from rollout.state import State
from rollout.store import Store

_LOOK_S = 0.05
_PATIENCE_S = 30.0
_PIECE_S = 5.0


@contextmanager
def digits_server(root: Path, **model: Any) -> Iterator[Server]:
    """Two gateways before the digits' version 1, on replicas unless told otherwise."""
    if not (root / MODEL).is_dir():
        digit_versions.publish_versions(Repository(root))
    port, grpc_port = free_ports(2)
    entry = {"versions": ["1"], "placement": "replicas", "replicas": 1, "run_code": True, **model}
    document = {
        "repository": str(root),
        "http": {"port": port},
        "grpc": {"port": grpc_port},
        "gateways": 2,
        "models": {MODEL: entry},
    }
    with serving(parse_config(document)) as server:
        yield server


def act(action: str, model: str = MODEL, **arguments: Any) -> Any:
    """What the command asks for, on the cluster that this process is connected to. An error
    is the plain one."""
    from ray import serve
    from ray.exceptions import RayTaskError

    handle = serve.get_app_handle(GATEWAY_APP)
    try:
        return handle.rollout.remote(action, model, arguments).result(timeout_s=_PATIENCE_S)
    except RayTaskError as err:
        raise err.cause from None


class Sent:
    """Pictures of digits in the background at a constant mean rate (a Poisson process), answers' headers
    kept: for so many seconds, or in pieces of so many until it is stopped."""

    def __init__(
        self, server: Server, rate_per_s: float, seconds: float, seed: int, is_endless: bool
    ) -> None:
        self._port = server.config.http.port
        self._rate_per_s = rate_per_s
        self._requests = digit_versions.requests(int(rate_per_s * seconds), seed)
        self._seed = seed
        self._is_last = threading.Event()
        if not is_endless:
            self._is_last.set()
        self._found: list[OpenLoad] = []
        self.began = time.time()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._is_last.is_set()
            late_s = time.time() - self.began
            load = asyncio.run(self._piece(self._seed + len(self._found)))
            self._found.append(replace(load, intended=load.intended + late_s, left=load.left + late_s))

    async def _piece(self, seed: int) -> OpenLoad:
        return await open_loop(
            "127.0.0.1",
            self._port,
            self._requests,
            self._rate_per_s,
            seed=seed,
            connections=16,
            keep_headers=True,
        )

    def result(self) -> OpenLoad:
        """What came back, at the end of the piece under way."""
        self._is_last.set()
        self._thread.join()
        joined = {
            name: np.concatenate([getattr(load, name) for load in self._found])
            for name in ("intended", "left", "latency", "status")
        }
        return OpenLoad(**joined, headers=[header for load in self._found for header in load.headers])


def send(server: Server, rate_per_s: float, seconds: float, seed: int = 0) -> Sent:
    """A load of so many seconds."""
    return Sent(server, rate_per_s, seconds, seed, is_endless=False)


def keep_sending(server: Server, rate_per_s: float, seed: int = 0) -> Sent:
    """A load until its result is asked for."""
    return Sent(server, rate_per_s, _PIECE_S, seed, is_endless=True)


def watch(server: Server, seconds: float, is_over: Callable[[State], bool]) -> list[tuple[float, State]]:
    """Each state that was seen in the repository, with its time, until it is over or the time is. Asking the
    server for it all the time would take a good part of two cores."""
    store = Store(Path(server.config.repository))
    seen: list[tuple[float, State]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = store.read(MODEL)
        assert state is not None
        if not seen or state.revision != seen[-1][1].revision:
            seen.append((time.time(), state))
        if is_over(state):
            break
        time.sleep(_LOOK_S)
    return seen


def processes(title: str) -> set[int]:
    """The ids of Ray's processes with this title, such as ServeReplica:headrace:Gateway."""
    found = psutil.process_iter(["cmdline"])
    return {process.pid for process in found if f"ray::{title}" in " ".join(process.info["cmdline"] or ())}


def kill(title: str) -> None:
    """One of them, at once."""
    psutil.Process(min(processes(title))).kill()


def is_done(state: State) -> bool:
    return state.rollout is None


def gets(version: str, share: float) -> Callable[[State], bool]:
    """Whether a version has this share of the requests."""
    return lambda state: state.split.shares.get(version) == share


def answered_by(load: OpenLoad) -> Mapping[str, int]:
    """How many answers each kind of version gave: "" is the stable one."""
    kinds, counts = np.unique(
        [header.get("headrace-variant", "") for header in load.headers], return_counts=True
    )
    return dict(zip(kinds.tolist(), counts.tolist(), strict=True))
