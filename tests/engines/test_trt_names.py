"""What we call of TensorRT for RTX is there in TensorRT 11 with the same signature.

TensorRT's own binding is real; the library that it binds is not to be had everywhere, so its place is taken
by that of RTX, of which nothing is called.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.engines import trt_names

Names = dict[str, dict[str, list[str]]]  # signatures, by class and attribute

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("engines/trt_library.py", "engines/trt_build.py", "engines/trt_kernel.py")
# A binding looks this one up when it is loaded; RTX has no such thing. A name that is as good, and shorter.
MISSING, INSTEAD = b"\0initLibNvInferPlugins\0", b"\0getPluginRegistry\0"
RTX_ALONE = {
    *("ComputeCapability", "num_compute_capabilities", "set_compute_capability"),
    *("EngineValidity", "get_engine_validity"),
    *("CudaGraphStrategy", "cuda_graph_strategy", "WHOLE_GRAPH_CAPTURE"),
}


@pytest.fixture(scope="module")
def rtx() -> Names:
    import tensorrt_rtx

    return trt_names.names(tensorrt_rtx)


@pytest.fixture(scope="module")
def tensorrt(tmp_path_factory: pytest.TempPathFactory) -> Names:
    import tensorrt_rtx_libs

    folder: Path = tmp_path_factory.mktemp("binding")
    binding = Path(str(distribution("tensorrt_cu13_bindings").locate_file("tensorrt_bindings")))
    (folder / "tensorrt_bindings").mkdir()
    (folder / "tensorrt_bindings" / "__init__.py").write_bytes((binding / "__init__.py").read_bytes())
    library = (binding / "tensorrt.so").read_bytes()
    assert MISSING in library
    library = library.replace(MISSING, INSTEAD.ljust(len(MISSING), b"\0"))
    (folder / "tensorrt_bindings" / "tensorrt.so").write_bytes(library)
    libraries = Path(str(tensorrt_rtx_libs.__file__)).parent
    for name, real in (
        ("libnvinfer.so.11", "libtensorrt_rtx.so.1"),
        ("libnvinfer_plugin.so.11", "libtensorrt_rtx.so.1"),
        ("libnvonnxparser.so.11", "libtensorrt_onnxparser_rtx.so.1"),
    ):
        (folder / name).symlink_to(libraries / real)
    done = subprocess.run(
        [sys.executable, trt_names.__file__, "tensorrt_bindings"],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Names = json.loads(done.stdout)
    return found


def used() -> set[str]:
    """Every attribute that our modules use of anything."""
    found = set()
    for module in MODULES:
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found - RTX_ALONE


def test_every_name_that_we_use_is_there_with_the_same_signature(rtx: Names, tensorrt: Names) -> None:
    ours = used()
    checked = 0
    for kind, attributes in rtx.items():
        for name in sorted(ours & attributes.keys()):
            if kind in tensorrt or kind in ours:
                assert name in tensorrt[kind], f"{kind}.{name}"
                assert set(attributes[name]) <= set(tensorrt[kind][name])
                checked += 1
    assert checked > 30
    assert ours & rtx.keys() <= tensorrt.keys()


def test_a_name_that_is_not_there_would_be_found(tensorrt: Names) -> None:
    assert "create_network" in tensorrt["Builder"]
    assert "ComputeCapability" not in tensorrt
    assert "FP16" not in tensorrt["BuilderFlag"]  # as it was before 11
