"""Figures of a made-up server, with all that a live page can show."""

from __future__ import annotations

import math
from typing import Any

STAGES = {
    "wire": 8e-5,
    "decode": 1e-4,
    "cache": 2e-4,
    "queue": 12e-4,
    "pad": 15e-5,
    "engine": 25e-4,
    "encode": 9e-5,
}
NOW = 1_764_192_000.0


def percentiles(mean: float) -> dict[str, float]:
    return {"p50": 0.9 * mean, "p95": 2.1 * mean, "p99": 3.3 * mean}


def version(
    name: str, role: str, share: float, requests_per_s: float, slow: float = 1.0, **others: Any
) -> dict[str, Any]:
    stages = [
        {"stage": stage, "mean": mean * slow, **percentiles(mean * slow)} for stage, mean in STAGES.items()
    ]
    return {
        "version": name,
        "role": role,
        "share": share,
        "requests_per_s": requests_per_s,
        "rows_per_s": 1.1 * requests_per_s,
        "errors_per_s": 0.05,
        "errors": {"overloaded": 3},
        "latency_s": percentiles(0.0043 * slow),
        "stages": stages,
        "tiers": {"miss": 4000, "memory": 2000, "redis": 500, "flight": 12},
        "saved_s": 12.3,
        "accuracy": None,
        "drift": None,
        "waiting_rows": 3,
        "oldest_s": 0.004,
        "batches": [
            {
                "group": "length<=64",
                "batches": 120,
                "rows": 7.4,
                "fill": 0.92,
                "engine_s": 0.012,
                "wait_s": 0.003,
            },
            {
                "group": "length<=128",
                "batches": 1,
                "rows": 3.4,
                "fill": 0.42,
                "engine_s": 0.019,
                "wait_s": 0.0003,
            },
        ],
        "replicas": {"running": 2, "wanted": 3},
        "report": True,
        **others,
    }


def idle(name: str) -> dict[str, Any]:
    """Of a version that nobody has asked."""
    nothing = {
        "rows_per_s": 0.0,
        "errors_per_s": 0.0,
        "errors": {},
        "latency_s": None,
        "stages": [],
        "tiers": {},
    }
    more = {
        "saved_s": 0.0,
        "waiting_rows": 0,
        "oldest_s": 0.0,
        "batches": [],
        "replicas": None,
        "report": False,
    }
    return version(name, "stable", 1.0, 0.0, **nothing, **more)


def series(now: float, **scales: float) -> dict[str, Any]:
    last = now // 5 * 5
    time = [last - 600 + 5 * index for index in range(121)]

    def values(scale: float) -> list[float | None]:
        return [
            None if index < 10 or 60 < index < 64 else scale * (1 + 0.3 * math.sin(at / 45))
            for index, at in enumerate(time)
        ]

    versions = {
        name: {
            "p50": values(0.004 * scale),
            "p95": values(0.009 * scale),
            "p99": values(0.0132 * scale),
            "requests_per_s": [120 * scale for _ in time],
            "errors_per_s": [0.0 for _ in time],
            "waiting_rows": [3 for _ in time],
        }
        for name, scale in scales.items()
    }
    return {"time": time, "versions": versions}


def figures(now: float = NOW, is_rolling: bool = True, **others: Any) -> dict[str, Any]:
    """Two models: one with a rollout, and one that nobody has asked."""
    words = (
        "p99 is 1.31 times the stable version's (131 ms, 100 ms), past p99<=1.2x; that may still be chance"
    )
    rollout = {
        "kind": "rollout",
        "phase": "canary",
        "candidate": "2",
        "step_percent": 5.0,
        "state": "running",
        "words": words,
    }
    versions = [version("1", "stable", 0.95 if is_rolling else 1.0, 120.5)]
    if is_rolling:
        judged = {
            "accuracy": {"right": 0.93, "judged": 120},
            "drift": {"compared": 100, "differing": 1, "flipped": 0.01},
        }
        versions.append(version("2", "candidate", 0.05, 6.3, 1.3, **judged))
    asked = {
        "name": "minilm",
        "stable": "1",
        "former": "0",
        "placement": "replicas",
        "rollout": rollout if is_rolling else None,
        "versions": versions,
        "series": series(now, **{"1": 1.0, **({"2": 1.3} if is_rolling else {})}),
    }
    unasked = {"name": "resnet", "stable": "3", "former": "2", "placement": "inline", "rollout": None}
    unasked |= {"versions": [idle("3")], "series": series(now)}
    shared = {
        "entries": 1200,
        "bytes": 3_000_000,
        "max_bytes": 1 << 28,
        "policy": "allkeys-lfu",
    }
    gpu = {
        "index": 0,
        "name": "H100",
        "utilization": 0.4,
        "memory_bytes": 8 << 30,
        "memory_total_bytes": 80 << 30,
    }
    usual = {"node": "10.0.0.1", "cpu": 0.53, "memory_bytes": 300_000_000, "threads": 20, "gpus": []}
    return {
        "version": "0.2.0",
        "now": now,
        "window_s": 60,
        "gateways": 2,
        "problems": [],
        "errors": {},
        "models": [asked, unasked],
        "cache": {"shared": shared, "answers": 1300, "bytes": 1_000_000, "max_bytes": 64 << 20},
        "processes": [
            {"kind": "gateway", "id": "ab12", "model": "", "version": "", "pid": 123, **usual},
            {
                "kind": "replica",
                "id": "cd34",
                "model": "minilm",
                "version": "1",
                "pid": 124,
                **usual,
                "gpus": [gpu],
            },
        ],
        **others,
    }
