"""Facts for audits: of a version that is well, to be changed."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from engines.manifest import Manifest, make_manifest
from headrace.config import ModelConfig
from headrace.tensors import Signature, TensorSpec
from rollout.audit import Audit, audit
from rollout.facts import Facts, Here, Memory, ModelFacts, Recorded
from rollout.traffic import Histogram, Traffic

NOW = datetime(2030, 6, 1, tzinfo=UTC)
HERE = Here(4, ("avx2", "avx512_vnni"), {"onnxruntime": "1.32.1"})
SIGNATURE = Signature((TensorSpec("x", "FP32", ("batch",)),), (TensorSpec("y", "FP32", ("batch",)),))


def manifest(version: str = "2", days: float = 1.0, **changes: Any) -> Manifest:
    parts = {
        "name": "m",
        "version": version,
        "engine": "onnxruntime",
        "engine_version": "1.32.1",
        "cpu_flags": HERE.flags,
        "graph": "model.onnx",
        "signature": SIGNATURE,
        "precision": "int8-dynamic",
        "parent": "1",
        "files": {"model.onnx": {"sha256": "0" * 64, "size": 1}},
        "created": (NOW - timedelta(days=days)).isoformat(),
    }
    return make_manifest(**(parts | changes))


def tuned(cores: int, **figures: float) -> dict[str, Any]:
    return {
        "instances": 1,
        "threads": 1,
        "max_batch": 8,
        "max_padding": 0.1,
        "grouping": "exact",
        "machine": {"cpu": "c", "cores": cores},
        "figures": figures,
    }


def traffic(answered: float = 1000.0, seconds: float | None = 10.0, **changes: Any) -> Traffic:
    """Answered within 10 ms, a quarter of the time in the engine."""
    made = Traffic(seconds, Histogram((0.01, 0.5, math.inf), (answered,) * 3), engine_s=2.5)
    return replace(made, **changes)


def model(config: dict[str, Any] | None = None, **changes: Any) -> ModelFacts:
    made = ModelFacts(ModelConfig.model_validate(config or {}), manifest(), baseline=Recorded({8: 0.02}))
    return replace(made, **changes)


def facts(*models: ModelFacts, **changes: Any) -> Facts:
    return replace(Facts(NOW, HERE, models, "models", "serve.yaml"), **changes)


def everything() -> Audit:
    seen = traffic(errors={"engine": 30.0}, tiers={"miss": 2000.0}, engine_s=1.0)
    idle = model(
        {"placement": "replicas", "replicas": 4, "cache": True},
        manifest=manifest(days=100, engine_version="1.30"),
        lately=seen,
        so_far=seen,
        processes=4,
    )
    return audit(facts(idle, memories=(Memory(1, 64 << 20, 64 << 20),), unknown=("something",)))
