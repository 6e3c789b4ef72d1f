"""A node killed under load, again and again: SIGKILL to its raylet and all its processes, a gateway and a
GPU replica among them, while requests come at a constant rate through HAProxies of other nodes, and by handle
from another job."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from benchmarks.figures import Figure, arguments, finish
from benchmarks.way_in import publish
from deployments.load import infer_request
from deployments.open_loop import OpenLoad, open_loop
from deployments.ports import free_ports
from headrace.config import parse_config
from tests.nodes import Node, Nodes, job_summary
from tests.waiting import wait_until

INLINE, FAR = MODELS = ("double", "far")  # in the gateways; on GPU replicas
GATEWAY, REPLICA = "ServeReplica:headrace:Gateway", f"ServeReplica:headrace:{FAR}:1:Model"
WORKERS, GATEWAYS, REPLICAS = 3, 3, 2  # so that what is lost has somewhere to go
RATE = 25.0  # requests/s to each model through each of two nodes
SECONDS = 15.0
AFTER_S = 3.0


@dataclass(frozen=True, slots=True)
class Kill:
    loads: Sequence[OpenLoad]
    at_s: float  # after the start of the loads
    back_s: float  # from the kill until as many replicas and gateways run as before


def main() -> int:
    options = arguments(__doc__)
    return finish(list(figures(1 if options.quick else 10)), options.json)


def figures(kills: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        runs, job = measure(Path(folder), kills)
    loads = [load for run in runs for load in run.loads]
    latency = np.concatenate([load.latency for load in loads])
    after = np.concatenate([_after(load, run.at_s) for run in runs for load in run.loads])
    return [
        Figure("nodes killed under load", len(runs), "nodes", f">= {kills}"),
        Figure("requests over HTTP meanwhile", len(latency), "requests"),
        Figure("of these, failed", sum(load.num_failed for load in loads), "requests", "== 0"),
        Figure("P50", _ms(latency, 50), "ms"),
        Figure("P99", _ms(latency, 99), "ms"),
        Figure(f"P99 of the {AFTER_S:g} s after a kill", _ms(after, 99), "ms"),
        Figure("slowest", _ms(latency, 100), "ms"),
        Figure("calls by handle from another job", job["calls"], "calls"),
        # One call at a time: at most one is on the gateway that dies.
        Figure("of these, failed", job["failed"], "calls", f"<= {kills}"),
        Figure("replicas and gateways back after a kill, longest", max(run.back_s for run in runs), "s"),
    ]


def measure(root: Path, kills: int) -> tuple[list[Kill], dict[str, float]]:
    for model in MODELS:
        publish(root / "models", model)
    (port,) = free_ports(1)
    document = {
        "repository": str(root / "models"),
        "gateways": GATEWAYS,
        "http": {"host": "0.0.0.0", "port": port},
        "cache": {"enabled": False},
        "models": {INLINE: {}, FAR: {"placement": "replicas", "replicas": REPLICAS, "num_gpus": 1.0}},
    }
    file = root / "headrace.yaml"
    file.write_text(yaml.safe_dump(document))
    rng = random.Random(5)
    runs = []
    with Nodes(parse_config(document)) as nodes:
        nodes.start_head(num_cpus=2)
        workers = [nodes.add(num_cpus=3, num_gpus=1) for _ in range(WORKERS)]
        done = nodes.headrace("serve", str(file), "--address", nodes.address)
        if done.returncode:
            raise SystemExit(done.stderr)
        with nodes.other_job(nodes.head, MODELS, root / "job.log") as job:
            for _ in range(kills):
                _settle(nodes, workers)
                victim = rng.choice(
                    [node for node in workers if node.running(GATEWAY) and node.running(REPLICA)]
                )
                workers.remove(victim)
                asked = [nodes.head, next(node for node in workers if node.running(GATEWAY))]
                runs.append(asyncio.run(_kill(asked, victim, [nodes.head, *workers], rng)))
                workers.append(nodes.add(num_cpus=3, num_gpus=1))
            told = job_summary(job)
    return runs, told


async def _kill(asked: Sequence[Node], victim: Node, others: Sequence[Node], rng: random.Random) -> Kill:
    requests = {
        model: [
            infer_request("test", model, {"x": np.full((1, 16), number, np.float32)})
            for number in range(int(RATE * SECONDS))
        ]
        for model in MODELS
    }
    runs = [
        open_loop(
            "127.0.0.1", node.http_port, requests[model], RATE, seed=rng.randrange(2**32), connections=8
        )
        for node in asked
        for model in MODELS
    ]
    loads = asyncio.gather(*runs)
    at_s = rng.uniform(2.0, 4.0)
    await asyncio.sleep(at_s)
    victim.kill()
    back_s = await asyncio.to_thread(wait_until, lambda: _all_run(others), "what was lost is back")
    return Kill(await loads, at_s, back_s)


def _settle(nodes: Nodes, workers: Sequence[Node]) -> None:
    wait_until(lambda: _all_run([nodes.head, *workers]), "replicas and gateways")
    wait_until(
        lambda: all(one["status"] == "RUNNING" for one in nodes.status()["applications"].values()),
        "all is well",
    )
    time.sleep(2.0)  # HAProxy sees a new gateway twice before it sends anything


def _all_run(nodes: Sequence[Node]) -> bool:
    counts = [sum(len(node.running(words)) for node in nodes) for words in (GATEWAY, REPLICA)]
    return counts == [GATEWAYS, REPLICAS]


def _after(load: OpenLoad, at_s: float) -> np.ndarray:
    return load.latency[(load.intended >= at_s) & (load.intended < at_s + AFTER_S)]


def _ms(latency: np.ndarray, percent: float) -> float:
    return float(np.percentile(latency, percent)) * 1000


if __name__ == "__main__":
    raise SystemExit(main())
