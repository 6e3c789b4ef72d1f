"""OpenVINO on the CPU."""

from __future__ import annotations

import logging
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from engines.artifact import Artifact
from engines.examples import example_inputs
from engines.external import external_files
from headrace.errors import ArtifactRejected, EngineFailed, TensorRejected
from headrace.tensors import Array, Signature, TensorMap, TensorSpec

if TYPE_CHECKING:
    import openvino

_log = logging.getLogger(__name__)

# OpenVINO's names for the datatypes of the protocol.
OPENVINO_DTYPES = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
    "string": "BYTES",
}
# What OpenVINO is asked to compute in; where the CPU cannot, it computes in f32.
_HINTS = {"bf16": "bf16", "fp16": "f16"}
_ABOUT_SHAPES = re.compile(r"\bshapes?\b|shape_inference", re.IGNORECASE)
_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The module, imported without the part of it that tells its makers of every import."""
    is_ours = _TELEMETRY not in sys.modules
    if is_ours:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's mark of what is not there
    try:
        import openvino
    finally:
        if is_ours:
            del sys.modules[_TELEMETRY]
    module: ModuleType = openvino
    return module


class OpenVinoEngine:
    """A model in OpenVINO: `streams` batches at a time, each computed by `threads` threads."""

    def __init__(self, artifact: Artifact, threads: int, streams: int = 1) -> None:
        manifest = artifact.manifest
        self._signature = manifest.signature
        self._warm_up = manifest.warm_up
        self._model: openvino.CompiledModel | None = _compiled(artifact, threads, streams)
        self._idle: list[openvino.InferRequest] = []  # as many as were ever at work at once

    @property
    def signature(self) -> Signature:
        return self._signature

    def warm_up(self) -> None:
        for sizes in self._warm_up:
            self.run(example_inputs(self._signature, sizes))

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        model, idle = self._model, self._idle
        if model is None:
            raise EngineFailed("the engine is closed")
        self._signature.check_outputs(outputs)
        # OpenVINO converts a wrong dtype, takes a missing input for the last one it had, and looks up
        # an index beyond the end as zero: it is asked nothing that was not checked.
        self._signature.check(batch)
        names = outputs or tuple(spec.name for spec in self._signature.outputs)
        feed = {spec.name: _native(batch[spec.name]) for spec in self._signature.inputs}
        try:
            request = idle.pop() if idle else model.create_infer_request()
        except IndexError:  # another thread was faster
            request = model.create_infer_request()
        try:
            # Not infer(): in 2026.4 that loses errors and leaves the answer before in its place.
            request.start_async(feed, share_inputs=True)
            request.wait()
            return {name: request.get_tensor(name).data.copy() for name in names}
        except Exception as err:
            if _ABOUT_SHAPES.search(str(err)):
                _log.info("openvino rejected a batch: %s", err)
                raise TensorRejected("the model cannot compute these values or shapes") from err
            _log.exception("openvino failed")
            raise EngineFailed(f"the engine failed on this batch ({type(err).__name__})") from err
        finally:
            idle.append(request)

    def close(self) -> None:
        self._model, self._idle = None, []


def _compiled(artifact: Artifact, threads: int, streams: int) -> openvino.CompiledModel:
    """A model made of verified bytes only: nothing is read by path again."""
    library = import_openvino()
    manifest = artifact.manifest
    graph = artifact.read(manifest.graph)
    of = f"'{manifest.graph}' of '{manifest.name}/{manifest.version}'"
    if weights := external_files(graph, manifest.graph_files().keys()):
        raise ArtifactRejected(
            f"{of} keeps weights in {sorted(weights)}, which openvino cannot take verified; publish a single "
            f"file, or for onnxruntime"
        )
    specs = (*manifest.signature.inputs, *manifest.signature.outputs)
    if others := [f"{spec.name}: {spec.dtype}" for spec in specs if spec.dtype in ("BYTES", "BF16")]:
        raise ArtifactRejected(
            f"{of} takes or gives text or BF16 ({', '.join(others)}); publish it for onnxruntime"
        )
    core, release = library.Core(), library.__version__.partition("-")[0]
    try:
        settings = _settings(manifest.precision, threads, streams)
        model = core.compile_model(core.read_model(graph), "CPU", settings)
    except Exception as err:
        _log.exception("openvino cannot load %s/%s", manifest.name, manifest.version)
        raise ArtifactRejected(f"{of} cannot be loaded by openvino {release} ({type(err).__name__})") from err
    _compare(manifest.signature.inputs, model.inputs, "input")
    _compare(manifest.signature.outputs, model.outputs, "output")
    return model


def _settings(precision: str, threads: int, streams: int) -> dict[str, str | int | bool]:
    # CPU_RUNTIME_CACHE_CAPACITY stays at OpenVINO's 5,000: what it made for a shape is found again.
    # 300 real texts on MiniLM by one thread, AMD Zen 3: 9.0 ms each, 12.2 without; 1,200 batches of
    # random shapes took 52 MB more, 41 with a capacity of 100.
    return {
        "INFERENCE_NUM_THREADS": streams * threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # replicas would pin their threads to the same cores
        "INFERENCE_PRECISION_HINT": _HINTS.get(precision, "f32"),
    }


def _compare(specs: tuple[TensorSpec, ...], nodes: list[openvino.ConstOutput], kind: str) -> None:
    """ArtifactRejected unless the manifest's signature is that of the graph."""
    told = {spec.name: spec.dtype for spec in specs}
    real = {}
    for node in nodes:
        name = next((name for name in sorted(node.names) if name in told), node.any_name)
        dtype = node.element_type.get_type_name()
        real[name] = OPENVINO_DTYPES.get(dtype, dtype)
    if told != real:
        raise ArtifactRejected(f"the manifest's {kind}s are {told}; those of the graph are {real}")


def _native(array: Array) -> Array:
    """The same values in this machine's byte order, one after the other."""
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
