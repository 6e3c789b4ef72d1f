"""ONNX Runtime on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.artifact import Artifact
from engines.driver import find_driver
from engines.examples import example_inputs
from engines.external import external_files
from engines.ort_bf16 import has_bf16, run_bf16
from headrace.errors import ArtifactRejected, EngineFailed, TensorRejected
from headrace.tensors import Array, Signature, TensorMap, TensorSpec

if TYPE_CHECKING:
    import onnxruntime

_log = logging.getLogger(__name__)

# ONNX Runtime's names for the datatypes of the protocol.
ORT_DTYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_ERRORS_ONLY = 3  # log severity
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OrtEngine:
    """A model in ONNX Runtime: `streams` batches at a time, each computed by `threads` threads. They share
    one session, so weights and what is packed of them are there once. With `profile_to` it notes the time of
    each node, for a file whose path begins so."""

    def __init__(
        self,
        artifact: Artifact,
        threads: int,
        streams: int = 1,
        profile_to: Path | None = None,
        gpu_share: float = 0.0,
    ) -> None:
        """With a share of a GPU it computes there, if this build of ONNX Runtime can."""
        import onnxruntime

        manifest = artifact.manifest
        self._signature = manifest.signature
        self._warm_up = manifest.warm_up
        self._rejected = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument
        self._session: onnxruntime.InferenceSession | None = _session(
            artifact, threads, streams, profile_to, gpu_share
        )
        self._has_bf16 = has_bf16(self._signature)

    @property
    def signature(self) -> Signature:
        return self._signature

    def warm_up(self) -> None:
        for sizes in self._warm_up:
            self.run(example_inputs(self._signature, sizes))

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        if self._session is None:
            raise EngineFailed("the engine is closed")
        self._signature.check_outputs(outputs)
        names = outputs or tuple(spec.name for spec in self._signature.outputs)
        feed = {spec.name: _to_ort(spec, batch) for spec in self._signature.inputs}
        try:
            if self._has_bf16:
                results = run_bf16(self._session, names, feed)
            else:
                results = self._session.run(list(names), feed)
        except self._rejected as err:
            _log.info("onnxruntime rejected a batch: %s", err)
            raise TensorRejected("the model cannot compute these values or shapes") from err
        except Exception as err:
            _log.exception("onnxruntime failed")
            raise EngineFailed(f"the engine failed on this batch ({type(err).__name__})") from err
        return {name: _from_ort(result) for name, result in zip(names, results, strict=True)}

    def end_profiling(self) -> Path:
        """Write what was noted, and note no more; the file. Python stands still meanwhile: 5 us per node."""
        assert self._session is not None
        return Path(self._session.end_profiling())

    def close(self) -> None:
        self._session = None


def _session(
    artifact: Artifact, threads: int, streams: int, profile_to: Path | None, gpu_share: float
) -> onnxruntime.InferenceSession:
    """A session made of verified bytes only: neither graph nor weights are read by path again."""
    import onnxruntime

    manifest = artifact.manifest
    if has_bf16(manifest.signature) and any(spec.dtype == "BYTES" for spec in manifest.signature.inputs):
        raise ArtifactRejected(
            f"'{manifest.name}/{manifest.version}' takes text and has BF16 tensors, which onnxruntime cannot "
            "be given together; cast the BF16 ones to FP32 inside the graph"
        )
    graph = artifact.read(manifest.graph)
    weights = sorted(external_files(graph, manifest.graph_files().keys()))
    options = _options(artifact, threads, streams)
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to)
    buffers = [artifact.read(file) for file in weights]
    if weights:
        options.add_external_initializers_from_files_in_memory(weights, buffers, [len(b) for b in buffers])
    try:
        session = onnxruntime.InferenceSession(
            graph,
            options,
            providers=_providers(onnxruntime.get_available_providers(), gpu_share),
            disabled_optimizers=list(manifest.session.disabled_optimizers),
        )
    except Exception as err:
        _log.exception("onnxruntime cannot load %s/%s", manifest.name, manifest.version)
        raise ArtifactRejected(
            f"'{manifest.graph}' of '{manifest.name}/{manifest.version}' cannot be loaded by onnxruntime "
            f"{onnxruntime.__version__} ({type(err).__name__})"
        ) from err
    _compare(manifest.signature.inputs, session.get_inputs(), "input")
    _compare(manifest.signature.outputs, session.get_outputs(), "output")
    return session


def _providers(available: Sequence[str], gpu_share: float) -> list[str | tuple[str, dict[str, str]]]:
    """What computes, the first that can: the GPU, within its share of the memory, and this processor."""
    if not gpu_share:
        return [_CPU]
    if _CUDA not in available:
        _log.warning(
            "this replica has a GPU, and this build of onnxruntime computes on none: install onnxruntime-gpu "
            "in its place, or set num_gpus: 0"
        )
        return [_CPU]
    memory = find_driver().devices[0].memory_bytes
    # By default the arena doubles each time, beyond the share.
    settings = {"gpu_mem_limit": str(int(gpu_share * memory)), "arena_extend_strategy": "kSameAsRequested"}
    return [(_CUDA, settings), _CPU]


def _options(artifact: Artifact, threads: int, streams: int) -> onnxruntime.SessionOptions:
    import onnxruntime

    wanted = artifact.manifest.session
    options = onnxruntime.SessionOptions()
    # Each caller computes, too; with one thread each there is no pool, and batches share nothing.
    options.intra_op_num_threads = streams * (threads - 1) + 1
    options.inter_op_num_threads = 1
    # Spinning threads of one replica take the cores of the next: medians up to 3.5x slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A plan is kept for every shape ever seen: 34 against 23 MB more after 1,500 batches of MiniLM of
    # random shapes, at the same speed.
    inputs = artifact.manifest.signature.inputs
    options.enable_mem_pattern = all(isinstance(dim, int) for spec in inputs for dim in spec.shape)
    options.log_severity_level = _ERRORS_ONLY
    level = (
        "DISABLE_ALL"
        if wanted.graph_optimization == "disabled"
        else f"ENABLE_{wanted.graph_optimization.upper()}"
    )
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    return options


def _compare(specs: tuple[TensorSpec, ...], nodes: list[onnxruntime.NodeArg], kind: str) -> None:
    """ArtifactRejected unless the manifest's signature is that of the graph."""
    told = {spec.name: spec.dtype for spec in specs}
    real = {node.name: ORT_DTYPES.get(node.type, node.type) for node in nodes}
    if told != real:
        raise ArtifactRejected(f"the manifest's {kind}s are {told}; those of the graph are {real}")


def _to_ort(spec: TensorSpec, batch: TensorMap) -> Array:
    try:
        array = batch[spec.name]
    except KeyError as err:
        raise TensorRejected(f"input '{spec.name}' is missing") from err
    if spec.dtype != "BYTES":
        if array.dtype.isnative and array.flags.c_contiguous:
            return array
        return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    try:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.flat]
    except UnicodeDecodeError as err:
        raise TensorRejected(f"input '{spec.name}' holds text that is not UTF-8") from err
    return np.array(texts, object).reshape(array.shape)


def _from_ort(result: Array) -> Array:
    if result.dtype.kind not in "OSU":
        return result
    return np.array([str(item).encode() for item in result.flat], object).reshape(result.shape)
