"""Texts of unlike lengths on two replicas: like shapes on one of them, against wherever there is room."""

from __future__ import annotations

import asyncio
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.figures import Figure, arguments, finish, middle
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from engines.artifact import Repository
from examples.minilm import graph
from examples.minilm.data import chat, tokenize
from headrace.config import Config, parse_config
from headrace.metrics import BATCH_ELEMENTS

ROUTERS = ("affine", "anywhere")
GROUPINGS = ("exact", "nearest")
REPLICAS = 2
CLIENTS = (8, 64)
EXPORT_S = 12.0  # Ray exports every few seconds


def main() -> int:
    options = arguments(__doc__, GROUPINGS)
    messages, repeats = (60, 1) if options.quick else (300, 3)
    texts = [tokenize(text) for text in chat(messages)]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder))
        for grouping in options.only or GROUPINGS:
            with serving(configuration(Path(folder), grouping)) as server:
                bodies = {
                    router: [infer_request("headrace", router, text) for text in texts] for router in ROUTERS
                }
                for clients in CLIENTS:
                    figures += compared(server, f"{grouping}, {clients} clients", bodies, clients, repeats)
                time.sleep(EXPORT_S)
                fills = fill(server)
                figures += [Figure(f"{grouping}: {name}, fill", fills[name], "ratio") for name in ROUTERS]
    return finish(figures, options.json)


def publish(root: Path) -> None:
    path = graph.write(root / ".minilm.onnx")
    for name in ROUTERS:
        Repository(root).publish(
            name,
            "1",
            {"model.onnx": path},
            graph="model.onnx",
            signature=graph.SIGNATURE,
            grouping="nearest",
            warm_up=({"batch": 1, "length": 16},),
        )


def configuration(root: Path, grouping: str) -> Config:
    (port,) = free_ports(1)
    common = {
        "placement": "replicas",
        "replicas": REPLICAS,
        "batching": {"grouping": grouping},
    }
    return parse_config(
        {
            "repository": str(root),
            "http": {"port": port},
            "cache": {"enabled": False},
            "models": {name: {**common, "affinity": name == "affine"} for name in ROUTERS},
        }
    )


def compared(
    server: Server, what: str, bodies: Mapping[str, Sequence[bytes]], clients: int, repeats: int
) -> list[Figure]:
    """Both, in turns, after one run to warm up."""
    loads: dict[str, list[Load]] = {router: [] for router in ROUTERS}
    for repeat in range(1 + repeats):
        for router in ROUTERS:
            load = asyncio.run(closed_loop("127.0.0.1", server.config.http.port, bodies[router], clients))
            if load.num_failed:
                raise SystemExit(f"{load.num_failed} requests failed: the rates would mean nothing")
            if repeat:
                loads[router].append(load)
    figures = []
    for router, found in loads.items():
        figures += [
            Figure(f"{what}: {router}", middle([load.per_second for load in found]), "requests/s"),
            Figure(f"{what}: {router}, mean batch", middle([load.mean_batch() for load in found]), "rows"),
            Figure(f"{what}: {router}, P50", middle([load.percentile_ms(50) for load in found]), "ms"),
        ]
    ratio = middle(
        [
            one.per_second / other.per_second
            for one, other in zip(loads["affine"], loads["anywhere"], strict=True)
        ]
    )
    return [*figures, Figure(f"{what}: affine / anywhere", ratio, "ratio")]


def fill(server: Server) -> dict[str, float]:
    """The useful share of the elements of each model's batches, by Ray's metrics."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"ray_{BATCH_ELEMENTS.name}":
                sums[sample.labels["model"], sample.labels["use"]] += sample.value
    return {
        router: sums[router, "useful"] / max(1.0, sums[router, "useful"] + sums[router, "padding"])
        for router in ROUTERS
    }


if __name__ == "__main__":
    raise SystemExit(main())
