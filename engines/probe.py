"""Whether an engine works on this machine, found out in a process of its own: on processors that they
do not know, some die by a signal.

    python -m engines.probe ENGINE          status 0, or 3 after a line that says why not
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from engines.load import REQUIREMENTS
from headrace.errors import EngineUnavailable
from headrace.guard import guarded
from headrace.tensors import Array, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

_SAID = 200  # characters of what a broken engine says
_NO = 3  # exit status, with the reason as the last line


def probe(engine: str, timeout_s: float = 60.0) -> str:
    """Nothing when the engine computes a tiny model rightly here, else the reason why not, in words."""
    if engine not in _PROBES:
        return f"there is no engine {engine!r}; there are: {', '.join(_PROBES)}"
    command = guarded(signal.SIGKILL, [sys.executable, "-m", "engines.probe", engine])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        ended = subprocess.run(  # noqa: S603  our own module, no shell
            command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it gave no answer within {timeout_s:g} s"
    if ended.returncode < 0:
        return f"it died by signal {signal.Signals(-ended.returncode).name} on this processor"
    if ended.returncode == _NO:
        return ended.stdout.strip().splitlines()[-1]
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return f"it does not work here: {last[:_SAID]}"
    return ""


def _probe_ort() -> str:
    import onnxruntime

    graph = _graph()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return _compare(graph, session.run(["y"], {"x": _image()})[0])


def _probe_openvino() -> str:
    from engines.openvino import import_openvino

    core = import_openvino().Core()
    graph = _graph()
    # As a version in FP32 is run: by itself it would round to BF16 where the processor has that.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(graph.SerializeToString()), "CPU", exact)
    request = model.create_infer_request()
    request.start_async({"x": _image()})
    request.wait()
    return _compare(graph, request.get_tensor("y").data)


def _probe_tensorrt() -> str:
    from engines.artifact import unpublished
    from engines.plans import Plans
    from engines.tensorrt import TensorRtEngine

    graph = _graph()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.onnx")
        path.write_bytes(graph.SerializeToString())
        spec = TensorSpec("x", "FP32", ("batch", 4, "height", "width"))
        artifact = unpublished(
            path.parent,
            name="probe",
            version="1",
            graph=path.name,
            signature=Signature(
                (spec,), (TensorSpec("y", "FP32", ("batch", 16)),), {"height": 16, "width": 16}
            ),
            engine="tensorrt",
            precision="fp32",
        )
        try:
            engine = TensorRtEngine(artifact, max_batch=2, plans=Plans(Path(folder, "plans")))
        except EngineUnavailable as err:
            return str(err)
        found = engine.run({"x": _image()})["y"]
        engine.close()
    return _compare(graph, found)


_PROBES = {"onnxruntime": _probe_ort, "openvino": _probe_openvino, "tensorrt": _probe_tensorrt}


def _graph() -> onnx.ModelProto:
    """A convolution, its mean over the image, a product: the kernels that take the time."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {"w": (8, 4, 3, 3), "m": (8, 16)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, "height", "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [
            numpy_helper.from_array(random.standard_normal(shape, np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _image() -> Array:
    return np.random.default_rng(1).standard_normal((2, 4, 10, 12), np.float32)


def _compare(graph: onnx.ModelProto, found: Array) -> str:
    from onnx.reference import ReferenceEvaluator

    (wanted,) = cast(list[Array], ReferenceEvaluator(graph).run(["y"], {"x": _image()}))
    if found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-3, atol=1e-3):
        return ""
    return "it computes wrong results on this processor"


def _main(engine: str) -> int:
    try:
        reason = _PROBES[engine]()
    except ImportError as err:
        reason = (
            f"it cannot be imported ({err.msg}); install with: pip install {REQUIREMENTS.get(engine, engine)}"
        )
    if reason:
        print(reason)
    return _NO if reason else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
