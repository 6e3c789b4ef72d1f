"""Features remembered: two heads on one backbone over the same texts, and what keeping them in FP16 costs.

Callers send text. Tokens and MiniLM's embedding are steps that are remembered for themselves; the heads, spam
and sentiment, are fitted to labelled texts here. Each round the other head is asked first, of texts that
nobody has asked of before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks import minilm
from benchmarks.figures import Figure, middle
from cache.halved import Halved
from deployments.load import Load, closed_loop, infer_request
from deployments.ports import free_ports
from deployments.serving import serving
from engines.artifact import Repository
from engines.load import load
from examples.minilm import tokens
from examples.minilm.data import chat, movie, sms, tokenize
from examples.minilm.graph import HIDDEN, SIGNATURE
from headrace.config import Config, parse_config
from headrace.tensors import Array, Signature, TensorSpec
from optimize.publish import publish

HOST = "127.0.0.1"
HEADS = ("spam", "mood")
MODELS = {"spam": "spam-head", "mood": "mood-head"}
RIDGE = 1.0
CLIENTS = (64, 1)


def two_heads(root: Path, texts: int, rounds: int, labelled: int) -> Iterator[Figure]:
    """What the second head costs, in time of a closed loop, and how right both are in FP32 and FP16."""
    repository = Repository(root)
    if minilm.MODEL not in repository.names():
        minilm.publish(root)
    publish(Path(tokens.__file__), repository, "tokens")
    yield from _fit(repository, labelled)
    yield from _timed(root, texts, rounds)


def _fit(repository: Repository, count: int) -> Iterator[Figure]:
    """Publish the heads, each a ridge regression on embeddings, and tell how right they are."""
    engine = load(repository.open(minilm.MODEL, "1"), 1)
    try:
        for head, data in zip(HEADS, (sms(), movie()), strict=True):
            rows = data[: 2 * count]
            x = np.concatenate([engine.run(tokenize(text))["embedding"] for text, _ in rows])
            y = np.array([1.0 if label else -1.0 for _, label in rows], np.float32)
            weights, bias = _ridge(x[:count], y[:count])
            _publish_head(repository, MODELS[head], weights, bias)
            halved = Halved(SIGNATURE)
            rounded = halved.widen(halved.narrow({"embedding": x}))["embedding"]
            full, half = (part[count:] @ weights + bias for part in (x, rounded))
            for name, score in (("FP32", full), ("FP16", half)):
                right = float(((score > 0) == (y[count:] > 0)).mean())
                yield Figure(f"features: {head} head, right with {name} features", right, "share")
            yield Figure(
                f"features: {head} head, scores changed by FP16, most",
                float(np.abs(full - half).max()),
                "score",
            )
    finally:
        engine.close()


def _ridge(x: Array, y: Array) -> tuple[Array, float]:
    middle_x, middle_y = x.mean(0), float(y.mean())
    centred = (x - middle_x).astype(np.float64)
    weights = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(HIDDEN), centred.T @ (y - middle_y))
    found: Array = weights.astype(np.float32)
    return found, middle_y - float(middle_x @ found)


def _publish_head(repository: Repository, name: str, weights: Array, bias: float) -> None:
    from onnx import TensorProto, helper

    given = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN])
    result = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    constants = [
        helper.make_tensor("w", TensorProto.FLOAT, [HIDDEN, 1], weights.tolist()),
        helper.make_tensor("b", TensorProto.FLOAT, [1], [bias]),
    ]
    node = helper.make_node("Gemm", ["embedding", "w", "b"], ["score"])
    graph = helper.make_graph([node], name, [given], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    spec = TensorSpec("embedding", "FP32", ("batch", HIDDEN))
    signature = Signature((spec,), (TensorSpec("score", "FP32", ("batch", 1)),))
    files = {"model.onnx": model.SerializeToString()}
    repository.publish(name, "1", files, graph="model.onnx", signature=signature)


def _config(root: Path, port: int) -> Config:
    models: dict[str, dict[str, Any]] = {
        "tokens": {"cache": True, "run_code": True},
        minilm.MODEL: {"cache": True, "cache_precision": "fp16"},
        **{model: {} for model in MODELS.values()},
    }
    pipelines = {head: {"steps": ["tokens", minilm.MODEL, model]} for head, model in MODELS.items()}
    return parse_config(
        {"repository": str(root), "http": {"port": port}, "models": models, "pipelines": pipelines}
    )


def _timed(root: Path, count: int, rounds: int) -> Iterator[Figure]:
    distinct = list(dict.fromkeys(chat(4 * count * (rounds * len(CLIENTS) + 1))))
    unseen = iter(distinct)
    (port,) = free_ports(1)
    ratios: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    firsts: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    seconds: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    reused: list[float] = []
    with serving(_config(root, port)):
        for head in HEADS:
            _ask(port, head, [next(unseen) for _ in range(min(count, 400))], CLIENTS[0])
        for number in range(rounds):
            for clients in CLIENTS:
                texts = [next(unseen) for _ in range(count if clients > 1 else count // 4)]
                first, second = HEADS if number % 2 == 0 else HEADS[::-1]
                before, after = (_ask(port, head, texts, clients) for head in (first, second))
                ratios[clients].append(before.per_second / after.per_second)
                firsts[clients].append(before.percentile_ms(50))
                seconds[clients].append(after.percentile_ms(50))
                told = [reply.headers["headrace-steps"] for reply in after.replies]
                reused.append(sum(f"{minilm.MODEL}=miss" not in steps for steps in told) / len(told))
    yield Figure("features: embeddings reused by the second head", middle(reused), "share")
    for clients in CLIENTS:
        name = f"{clients} client{'s' if clients > 1 else ''}"
        yield Figure(f"features: first head, P50, {name}", middle(firsts[clients]), "ms")
        yield Figure(f"features: second head, P50, {name}", middle(seconds[clients]), "ms")
        yield Figure(f"features: second head / first, {name}", middle(ratios[clients]), "ratio", "<= 0.25")


def _ask(port: int, head: str, texts: Sequence[str], clients: int) -> Load:
    bodies = [infer_request(HOST, head, {"text": np.array([text.encode()], object)}) for text in texts]
    load: Load = uvloop.run(closed_loop(HOST, port, bodies, clients))
    if load.num_failed:
        raise SystemExit(f"{load.num_failed} requests failed: the figures would mean nothing")
    return load
