"""From an artifact to a running engine."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engines.artifact import Artifact
from engines.base import Engine
from engines.cpu import cpu_flags
from engines.gpu_engine import MAX_BATCH
from engines.profiles import Sizes
from engines.python import PythonEngine
from headrace.errors import EngineUnavailable

_log = logging.getLogger(__name__)

# What to install for each engine.
REQUIREMENTS = {
    "onnxruntime": "'onnxruntime>=1.32,<2'",
    "openvino": "openvino",
    "tensorrt": "'headrace[gpu]' or 'headrace[rtx]'",
    "aot": "'headrace[optimize]'",
    "aot-cuda": "'headrace[optimize,gpu]'",
}


def load(
    artifact: Artifact,
    threads: int,
    streams: int = 1,
    *,
    max_batch: int | None = None,
    buckets: Sequence[Sizes] = (),
    gpu_share: float = 0.0,
) -> Engine:
    """The engine that the manifest names, ready to run `streams` batches at a time, each with `threads`
    threads.

    For engines that are built for certain shapes, `max_batch` is the most rows that a batch will have, and
    `buckets` are the sizes that it is padded to, if they are known. `gpu_share` is the part of a GPU that it
    has, and of its memory may take.

    EngineUnavailable says why it cannot be had and what to install; ArtifactRejected when the
    library cannot load the graph.
    """
    _warn_of_missing_flags(artifact)
    match engine := artifact.manifest.engine:
        case "onnxruntime":
            return _load_ort(artifact, threads, streams, gpu_share)
        case "openvino":
            return _load_openvino(artifact, threads, streams)
        case "tensorrt":
            from engines.tensorrt import TensorRtEngine

            return TensorRtEngine(artifact, max_batch or MAX_BATCH, buckets, gpu_share=gpu_share or 1.0)
        case "aot":
            _need_torch(engine)
            from engines.aot import AotEngine

            return AotEngine(artifact, threads, streams)
        case "aot-cuda":
            _need_torch(engine)
            from engines.aot_gpu import AotGpuEngine

            return AotGpuEngine(artifact, max_batch or MAX_BATCH, buckets, gpu_share=gpu_share or 1.0)
        case "python":
            return PythonEngine(artifact)
        case _:
            known = ", ".join(repr(name) for name in (*REQUIREMENTS, "python"))
            raise EngineUnavailable(
                f"engine {engine!r} unavailable: this release has no such engine; it has: {known}. "
                f"Install a release that has it, or publish '{artifact.manifest.name}' for one of these"
            )


def _load_ort(artifact: Artifact, threads: int, streams: int, gpu_share: float) -> Engine:
    try:
        import onnxruntime  # noqa: F401  whether it can be imported is the question
    except ImportError as err:
        raise _unavailable("onnxruntime", err) from err
    from engines.ort import OrtEngine

    return OrtEngine(artifact, threads, streams, gpu_share=gpu_share)


def _load_openvino(artifact: Artifact, threads: int, streams: int) -> Engine:
    from engines.openvino import OpenVinoEngine, import_openvino

    try:
        import_openvino()
    except ImportError as err:
        raise _unavailable("openvino", err) from err
    return OpenVinoEngine(artifact, threads, streams)


def _need_torch(engine: str) -> None:
    try:
        import torch  # noqa: F401  whether it can be imported is the question
    except ImportError as err:
        raise _unavailable(engine, err) from err


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
