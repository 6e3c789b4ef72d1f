"""From an artifact to a running engine."""

from __future__ import annotations

import logging

from engines.artifact import Artifact
from engines.base import Engine
from engines.cpu import cpu_flags
from engines.python import PythonEngine
from headrace.errors import EngineUnavailable

_log = logging.getLogger(__name__)

# What to install for each engine.
REQUIREMENTS = {"onnxruntime": "'onnxruntime>=1.32,<2'", "openvino": "openvino"}


def load(artifact: Artifact, threads: int, streams: int = 1) -> Engine:
    """The engine that the manifest names, ready to run `streams` batches at a time, each with `threads`
    threads.

    EngineUnavailable says why it cannot be had and what to install; ArtifactRejected when the
    library cannot load the graph.
    """
    _warn_of_missing_flags(artifact)
    match engine := artifact.manifest.engine:
        case "onnxruntime":
            return _load_ort(artifact, threads, streams)
        case "openvino":
            return _load_openvino(artifact, threads, streams)
        case "python":
            return PythonEngine(artifact)
        case _:
            known = ", ".join(repr(name) for name in (*REQUIREMENTS, "python"))
            raise EngineUnavailable(
                f"engine {engine!r} unavailable: this release has no such engine; it has: {known}. "
                f"Install a release that has it, or publish '{artifact.manifest.name}' for one of these"
            )


def _load_ort(artifact: Artifact, threads: int, streams: int) -> Engine:
    try:
        import onnxruntime  # noqa: F401  whether it can be imported is the question
    except ImportError as err:
        raise _unavailable("onnxruntime", err) from err
    from engines.ort import OrtEngine

    return OrtEngine(artifact, threads, streams)


def _load_openvino(artifact: Artifact, threads: int, streams: int) -> Engine:
    from engines.openvino import OpenVinoEngine, import_openvino

    try:
        import_openvino()
    except ImportError as err:
        raise _unavailable("openvino", err) from err
    return OpenVinoEngine(artifact, threads, streams)


def _unavailable(engine: str, err: ImportError) -> EngineUnavailable:
    return EngineUnavailable(
        f"engine '{engine}' unavailable: {err.msg}; install with: pip install {REQUIREMENTS[engine]}"
    )


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
