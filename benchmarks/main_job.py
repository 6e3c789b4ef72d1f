"""The main job's figures: the model's size, speed and accuracy, the replay, tritonclient.

Also INT8 with 64 clients against the plain Serve program of Ray's documentation, which runs the engine
with its defaults.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.compare import CLIENTS
from benchmarks.figures import Figure, arguments, finish, middle
from benchmarks.servers import plain_serve
from benchmarks.servers.base import HOST, THREADS, Setup, Task
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import Server, serving
from deployments.terminal import bars
from engines.artifact import Artifact, Repository
from examples.demo import CHAINS, GOALS, MODEL, RECIPE, tensor_bytes, unlike_fresh
from examples.minilm.data import chat, tokenize
from headrace.config import CacheConfig, Config, HttpConfig, ModelConfig
from optimize.pipeline import optimize
from optimize.recipe import load_recipe
from optimize.report import Report

BATCH = 8  # rows, in the plain program


def main() -> int:
    options = arguments(__doc__)
    messages, repeats = (300, 1) if options.quick else (3000, 5)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / MODEL
        with bars() as progress:
            report = optimize(load_recipe(RECIPE), out, GOALS, progress, chains=CHAINS)
        small = Repository(out.parent).open(MODEL, report.after.version)
        texts = [tokenize(text) for text in chat(messages)]
        plains = measure_plain(Task(small, texts, "input_ids", "embedding", "attention_mask", False), repeats)
        bodies = [infer_request("headrace", MODEL, text) for text in texts]
        ours = measure_ours(small, bodies, repeats)
    return finish([*model_figures(report), *ours.figures, *compared(plains, ours.rates)], options.json)


def model_figures(report: Report) -> list[Figure]:
    return [
        Figure("INT8 size / FP32 size", report.size_ratio, "ratio", "<= 0.30"),
        Figure("INT8 speed / FP32 speed, one thread", report.speedup, "ratio", ">= 1.5"),
        Figure("accuracy lost, labelled texts", report.drop, "share", "<= 0.01"),
    ]


def compared(plains: dict[str, float], ours: dict[str, float]) -> list[Figure]:
    fastest = max(rate for name, rate in plains.items() if "flags" not in name)
    rates = [Figure(name, rate, "requests/s") for name, rate in {**plains, **ours}.items()]
    flagged = max(plains.values())
    return [
        *rates,
        Figure(
            "Headrace without cache / fastest plain program",
            ours["Headrace, no cache"] / fastest,
            "ratio",
            ">= 2",
        ),
        Figure(
            "Headrace without cache / plain with our flags", ours["Headrace, no cache"] / flagged, "ratio"
        ),
        Figure("Headrace with cache / fastest plain program", ours["Headrace, cached"] / fastest, "ratio"),
    ]


def measure_plain(task: Task, repeats: int) -> dict[str, float]:
    """Requests/s of the plain program: both ways to spend the threads, and once with our flags."""
    rates = {}
    bodies = plain_serve.requests(task)
    for start, replicas in (
        (plain_serve.plain, 1),
        (plain_serve.plain, THREADS),
        (plain_serve.flagged, THREADS),
    ):
        flags = ", our flags" if start is plain_serve.flagged else ""
        name = f"plain Serve, {replicas} x {THREADS // replicas} threads{flags}"
        with start(task, Setup(replicas, THREADS // replicas, BATCH)) as port:
            rates[name] = middle([load.per_second for load in runs(port, bodies, repeats)])
    return rates


class Ours:
    """What was measured of Headrace itself."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}
        self.figures: list[Figure] = []


def measure_ours(small: Artifact, bodies: Sequence[bytes], repeats: int) -> Ours:
    ours = Ours()
    root = small.folder.parent.parent
    (port,) = free_ports(1)
    config = Config(
        repository=str(root),
        gateways=THREADS,
        http=HttpConfig(port=port),
        cache=CacheConfig(enabled=True),
        models={MODEL: ModelConfig(versions=[small.manifest.version])},
    )
    with serving(config) as server:
        loads = runs(port, bodies, repeats)
        ours.rates["Headrace, no cache"] = middle([load.per_second for load in loads])
        ours.figures += [
            Figure(f"P{p}, no cache", middle([x.percentile_ms(p) for x in loads]), "ms") for p in (50, 99)
        ]
        ours.figures.append(Figure("mean batch, no cache", middle([x.mean_batch() for x in loads]), "rows"))
        ours.figures.append(Figure("tritonclient.http checks passed", triton_checks(server), "of 6", ">= 6"))
        cached = config.model_copy(
            update={"models": {MODEL: ModelConfig(versions=[small.manifest.version], cache=True)}}
        )
        server.update(cached)
        replay = asyncio.run(closed_loop(config.http.host, port, bodies, CLIENTS))
        ours.rates["Headrace, cached"] = replay.per_second
        ours.figures += replay_figures(bodies, replay)
    return ours


def replay_figures(bodies: Sequence[bytes], replay: Load) -> list[Figure]:
    hits = [tier in ("memory", "redis") for tier in replay.tiers()]
    raw = [tensor_bytes(reply).hex() for reply in replay.replies]
    return [
        Figure("failed requests in the replay", replay.num_failed, "requests", "== 0"),
        Figure("cache hits in the replay", sum(hits), "requests", "> 0"),
        Figure("cached answers unlike fresh ones", unlike_fresh(bodies, raw, hits), "requests", "== 0"),
    ]


def triton_checks(server: Server) -> int:
    """How many of six things an unmodified tritonclient.http can do."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    text = tokenize("how are you?")
    answers = []
    for is_binary in (True, False):
        inputs = [triton.InferInput(name, array.shape, "INT64") for name, array in text.items()]
        for tensor, array in zip(inputs, text.values(), strict=True):
            tensor.set_data_from_numpy(array, binary_data=is_binary)
        wanted = [triton.InferRequestedOutput("embedding", binary_data=is_binary)]
        answers.append(client.infer(MODEL, inputs, outputs=wanted).as_numpy("embedding"))
    checks = [
        client.is_server_live(),
        client.is_server_ready(),
        client.is_model_ready(MODEL),
        client.get_model_metadata(MODEL)["name"] == MODEL,
        answers[0].shape == (1, 384),
        bool(np.array_equal(answers[0], answers[1])),
    ]
    return sum(checks)


def runs(port: int, bodies: Sequence[bytes], repeats: int) -> list[Load]:
    """Every body once, `repeats` times, after one run to warm up; a failed request ends it all."""
    _, *loads = [asyncio.run(closed_loop(HOST, port, bodies, CLIENTS)) for _ in range(1 + repeats)]
    failed = sum(load.num_failed for load in loads)
    if failed:
        raise SystemExit(f"{failed} requests failed: the rates would mean nothing")
    return loads


if __name__ == "__main__":
    raise SystemExit(main())
