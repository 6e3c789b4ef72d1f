"""From an artifact to a running engine."""

from __future__ import annotations

import logging

from engines.artifact import Artifact
from engines.base import Engine
from engines.cpu import cpu_flags
from headrace.errors import EngineUnavailable

_log = logging.getLogger(__name__)


def load(artifact: Artifact, threads: int) -> Engine:
    """The engine that the manifest names, ready to run with `threads` threads.

    EngineUnavailable says why it cannot be had and what to install; ArtifactRejected when the
    library cannot load the graph.
    """
    _warn_of_missing_flags(artifact)
    engine = artifact.manifest.engine
    if engine != "onnxruntime":
        raise EngineUnavailable(
            f"engine {engine!r} unavailable: this release has no such engine; it has: 'onnxruntime'. "
            f"Install a release that has it, or publish '{artifact.manifest.name}' for onnxruntime"
        )
    try:
        import onnxruntime  # noqa: F401  whether it can be imported is the question
    except ImportError as err:
        raise EngineUnavailable(
            f"engine 'onnxruntime' unavailable: {err.msg}; install with: pip install 'onnxruntime>=1.32,<2'"
        ) from err
    from engines.ort import OrtEngine

    return OrtEngine(artifact, threads)


def _warn_of_missing_flags(artifact: Artifact) -> None:
    manifest = artifact.manifest
    if missing := sorted(set(manifest.cpu_flags) - set(cpu_flags())):
        _log.warning(
            "%s/%s was measured on a CPU with %s, which this machine lacks: expect other speeds, "
            "and other roundings in INT8",
            manifest.name,
            manifest.version,
            ", ".join(missing),
        )
