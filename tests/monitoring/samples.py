"""Figures as a server tells them, with a rollout, a GPU, a model that nobody asks, and a problem."""

from __future__ import annotations

from typing import Any


def version(name: str = "1", role: str = "stable", share: float = 1.0, **others: Any) -> dict[str, Any]:
    stages = {"wire": 0.0001, "decode": 0.0002, "cache": 0.0001, "queue": 0.002, "pad": 0.0001}
    stages |= {"engine": 0.005, "encode": 0.0002}
    return {
        "version": name,
        "role": role,
        "share": share,
        "requests_per_s": 120.5 * share,
        "rows_per_s": 130.1 * share,
        "errors_per_s": 0.0,
        "errors": {},
        "latency_s": {"p50": 0.004, "p95": 0.009, "p99": 0.013},
        "stages": [
            {"stage": stage, "mean": mean, "p50": mean, "p95": 2 * mean, "p99": 4 * mean}
            for stage, mean in stages.items()
        ],
        "tiers": {"miss": 75, "memory": 20, "redis": 5},
        "saved_s": 1.2,
        "accuracy": None,
        "drift": None,
        "waiting_rows": 3,
        "oldest_s": 0.004,
        "batches": [
            {
                "group": "length<=64",
                "batches": 120,
                "rows": 6.0,
                "fill": 0.9,
                "engine_s": 0.01,
                "wait_s": 0.003,
            },
            {
                "group": "length<=16",
                "batches": 40,
                "rows": 2.0,
                "fill": 0.5,
                "engine_s": 0.01,
                "wait_s": 0.003,
            },
        ],
        "replicas": {"running": 1, "wanted": 2},
        "report": True,
        **others,
    }


def idle() -> dict[str, Any]:
    rates = {"requests_per_s": 0.0, "rows_per_s": 0.0, "latency_s": None, "stages": [], "tiers": {}}
    return version(batches=[], replicas=None, waiting_rows=0, oldest_s=0.0, **rates)


def model(name: str, versions: list[dict[str, Any]], rollout: dict[str, Any] | None = None) -> dict[str, Any]:
    count = 120
    series = {
        "p50": [0.004] * count,
        "p95": [0.009] * count,
        "p99": [None] * 100 + [0.01 + 0.001 * at for at in range(20)],
        "requests_per_s": [120.5] * count,
        "errors_per_s": [0.0] * count,
        "waiting_rows": [3] * count,
    }
    return {
        "name": name,
        "stable": versions[0]["version"],
        "placement": "replicas",
        "rollout": rollout,
        "versions": versions,
        "series": {
            "time": [1764191400 + 5 * at for at in range(count)],
            "versions": {one["version"]: series for one in versions},
        },
    }


def process(kind: str, cpu: float, **others: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "id": "ab12",
        "model": "",
        "version": "",
        "node": "10.0.0.1",
        "pid": 123,
        "cpu": cpu,
        "memory_bytes": 300_000_000,
        "threads": 20,
        "gpus": [],
        **others,
    }


def figures() -> dict[str, Any]:
    gpu = {
        "index": 0,
        "name": "H100",
        "utilization": 0.4,
        "memory_bytes": 2**30,
        "memory_total_bytes": 80 * 2**30,
    }
    rollout = {
        "kind": "rollout",
        "phase": "canary",
        "candidate": "2",
        "step_percent": 5.0,
        "state": "running",
        "words": "too few requests yet",
    }
    return {
        "version": "0.2.0",
        "now": 1764192000.0,
        "window_s": 60,
        "gateways": 2,
        "problems": ["a gateway does not answer"],
        "errors": {},
        "models": [
            model("digits", [idle()]),
            model(
                "minilm", [version(share=0.95), version("2", "candidate", 0.05, errors_per_s=0.25)], rollout
            ),
        ],
        "cache": {
            "shared": {
                "entries": 10,
                "bytes": 5000,
                "max_bytes": 2**28,
                "policy": "allkeys-lru",
            },
            "answers": 120,
            "bytes": 1000,
            "max_bytes": 67108864,
        },
        "processes": [
            process("gateway", 0.53),
            process("replica", 1.25, model="minilm", version="1", gpus=[gpu]),
        ],
    }
