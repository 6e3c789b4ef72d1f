"""What seeing costs and whether it is right: stages, monitoring on and off, an hour of load."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import digit_versions, minilm, way_in
from benchmarks.figures import Figure, arguments, finish, middle
from benchmarks.soak import soak
from deployments.asking import get
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from examples.minilm import graph
from headrace.config import Config, parse_config

PARTS = ("stages", "cost", "soak")
_CLIENTS = 16
_TOKENS = 48


def main() -> int:
    options = arguments(__doc__, PARTS)
    only = options.only or PARTS
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = options.work or Path(folder)
        publish(root)
        if "stages" in only:
            figures += stages(root, 60 if options.quick else 1500, details)
        if "cost" in only:
            figures += cost(root, *((2, 1.0) if options.quick else (80, 1.5)))
        if "soak" in only:
            figures += soaked(root, 30.0 if options.quick else 3600.0, details)
    return finish(figures, options.json, details)


def publish(root: Path) -> None:
    """A model that costs nothing, one that waits 5 ms on a replica, and one that computes."""
    if not (root / way_in.MODEL).is_dir():
        way_in.publish(root)
        minilm.publish(root)
        digit_versions.publish_versions(Repository(root), {"1": {}})


def configuration(root: Path, **others: Any) -> Config:
    (port,) = free_ports(1)
    document = {
        "repository": str(root),
        "gateways": 2,
        "http": {"port": port},
        "models": {
            way_in.MODEL: {},
            minilm.MODEL: {},
            digit_versions.MODEL: {"placement": "replicas", "replicas": 1, "run_code": True},
        },
        **others,
    }
    return parse_config(document)


def bodies_of(model: str, count: int, seed: int = 0) -> list[bytes]:
    """Requests of one row, no two the same."""
    rng = np.random.default_rng(seed)
    if model == digit_versions.MODEL:
        return digit_versions.requests(count, seed)
    if model == way_in.MODEL:
        return [infer_request("bench", model, {"x": rng.random((1, 16), np.float32)}) for _ in range(count)]
    ids = rng.integers(1000, 20_000, (count, 1, _TOKENS))
    names = [spec.name for spec in graph.SIGNATURE.inputs]
    return [
        infer_request(
            "bench", model, {name: row if name == "input_ids" else np.ones_like(row) for name in names}
        )
        for row in ids
    ]


def asked(server: Server, bodies: list[bytes], clients: int) -> Load:
    load = asyncio.run(closed_loop("127.0.0.1", server.config.http.port, bodies, clients))
    if load.num_failed:
        raise SystemExit(f"{load.num_failed} requests failed: the times would mean nothing")
    return load


def told_of(server: Server, model: str) -> Mapping[str, Any]:
    """The stable version's figures once all that was asked is in them."""
    until = time.time() + 1.5
    while True:
        told = get(server.url, "/v2/figures", timeout_s=30)
        if told["now"] > until:
            (entry,) = [each for each in told["models"] if each["name"] == model]
            found: Mapping[str, Any] = entry["versions"][0]
            return found
        time.sleep(0.1)


def stages(root: Path, count: int, details: dict[str, Any]) -> list[Figure]:
    """One client, so that nothing waits for the client itself: its latencies against the stages' sum."""
    figures = []
    with serving(configuration(root)) as server:
        for model in (minilm.MODEL, digit_versions.MODEL, way_in.MODEL):
            asked(server, bodies_of(model, 200, seed=1), 1)
            time.sleep(62)  # until those have left the window
            load = asked(server, bodies_of(model, count), 1)
            found = told_of(server, model)
            spent = {entry["stage"]: entry["mean"] * 1000 for entry in found["stages"]}
            latency_ms = float(np.mean([reply.seconds for reply in load.replies])) * 1000
            details[f"stages of {model}, ms"] = {**spent, "client": latency_ms}
            figures += [
                Figure(f"{model}: mean latency, at the client", latency_ms, "ms"),
                Figure(
                    f"{model}: what its stages lack of that",
                    abs(1 - sum(spent.values()) / latency_ms),
                    "share",
                    "<= 0.05",
                ),
            ]
    return figures


def cost(root: Path, turns: int, seconds: float) -> list[Figure]:
    """Throughput with monitoring and without, in turns of a few seconds: both servers are there all the time,
    since what else the machine does changes within minutes by more than what is looked for."""
    figures = []
    with _beside(configuration(root)) as on, _beside(configuration(root, monitoring=False)) as off:
        ports = {True: on, False: off}
        for model in (minilm.MODEL, way_in.MODEL):
            bodies = bodies_of(model, 2000, seed=1)
            usual = [_rate(port, bodies[:300]) for port in ports.values()]
            count = max(2 * _CLIENTS, int(min(usual) * seconds))
            rates: dict[bool, list[float]] = {True: [], False: []}
            for number in range(turns):
                turn = [bodies[(number * count + k) % len(bodies)] for k in range(count)]
                for is_on in (True, False) if number % 2 else (False, True):
                    rates[is_on].append(_rate(ports[is_on], turn))
            pairs = zip(rates[True], rates[False], strict=True)
            lost = 1 - np.array([with_it / without for with_it, without in pairs])
            spread = float(np.std(lost)) / len(lost) ** 0.5
            figures += [
                Figure(f"{model}: with monitoring", middle(rates[True]), "requests/s"),
                Figure(f"{model}: without", middle(rates[False]), "requests/s"),
                Figure(f"{model}: throughput lost to monitoring", float(np.median(lost)), "share", "<= 0.03"),
                Figure(
                    f"{model}: that, as it varies between {turns} turns (standard error)", spread, "share"
                ),
            ]
    return figures


def _rate(port: int, bodies: list[bytes]) -> float:
    load = asyncio.run(closed_loop("127.0.0.1", port, bodies, _CLIENTS))
    if load.num_failed:
        raise SystemExit(f"{load.num_failed} requests failed: the times would mean nothing")
    return load.per_second


@contextmanager
def _beside(config: Config) -> Iterator[int]:
    """A server in a process, and on a cluster, of its own; its port."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(config.model_dump(mode="json", exclude_unset=True), its))
    process.start()
    its.close()
    try:
        ours.recv()  # EOFError: it has ended, and said why
        yield config.http.port
    finally:
        ours.close()
        process.join()


def _serve(document: dict[str, Any], until: Connection) -> None:
    with serving(parse_config(document)):
        until.send("ready")
        with suppress(EOFError):
            until.recv()


@contextmanager
def soak_server(root: Path, memory_mib: float = 4.0) -> Iterator[tuple[Server, dict[str, int]]]:
    """One model in the gateways with a cache of this size, one on a replica; and the lengths to ask each
    for. A cache that is full early: until then it grows, as it is to."""
    for name in (way_in.MODEL, "far"):
        if not (root / name).is_dir():
            way_in.publish(root, name)
    models = {way_in.MODEL: {"cache": True}, "far": {"placement": "replicas", "replicas": 1}}
    with serving(configuration(root, cache={"memory_mib": memory_mib}, models=models)) as server:
        yield server, dict.fromkeys(models, 60)


def soaked(root: Path, seconds: float, details: dict[str, Any]) -> list[Figure]:
    with soak_server(root) as (server, models):
        found = soak(server, models, seconds, rate_per_s=60.0)
    details["MiB a minute, by process"] = dict(found.mib_per_minute)
    name, steepest = found.steepest
    return [
        Figure("load", seconds / 60, "minutes"),
        Figure("requests", found.requests, "requests"),
        Figure("answered otherwise than they deserved", found.unexpected, "requests", "== 0"),
        Figure(f"memory, steepest process ({name.split()[0]})", steepest, "MiB/min", "<= 1"),
        Figure("series of our metrics", found.series, "series"),
        Figure("values of their labels, after a quarter of it", found.labels, "values"),
        Figure("values that came after that", len(found.came), "values", "<= 0"),
        Figure("processes that ended", found.ended, "processes", "<= 0"),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
