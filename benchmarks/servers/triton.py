"""Triton out of PyPI's nvidia-pytriton: its C++ front and scheduler, the engine in its Python backend.

That package brings no ONNX Runtime backend. The server is run as such, without pytriton's own hop into
another process.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers.base import HOST, Contender, Setup, Task, all_setups, raw_requests
from benchmarks.servers.child import child
from benchmarks.servers.environment import PROGRAMS, environment, packages
from benchmarks.servers.programs.raw_model import Wire
from deployments.ports import free_ports
from headrace.tensors import DTYPES

NAME = "Triton, Python backend"
MODEL = "raw"
QUEUE_DELAY_US = 2000
requests = raw_requests(f"/v2/models/{MODEL}/infer", "inference-header-content-length: 0\r\n")
_DTYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}


@contextmanager
def serving(task: Task, setup: Setup) -> Iterator[int]:
    folder = environment("triton")
    server = packages(folder) / "pytriton" / "tritonserver"
    wire = task.wire(setup)
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="benchmark-triton-") as scratch:
        _write_repository(Path(scratch), task, wire, setup)
        command = [str(server / "bin" / "tritonserver"), f"--model-repository={scratch}"]
        command += [f"--backend-directory={_backends(server)}", "--exit-timeout-secs=5"]
        command += [f"--http-address={HOST}", f"--http-port={port}", "--http-thread-count=2"]
        command += ["--allow-grpc=false", "--allow-metrics=false", "--log-info=false"]
        variables = {
            # The backend's interpreter takes the environment of the first Python on the path.
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", "")]),
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),  # libpython, which it is linked with
        }
        with child(NAME, command, wire, port, requests(task)[0], variables):
            yield port


def _backends(server: Path) -> Path:
    """The package's backends, with the stub of this Python's version put where Triton looks for it."""
    stub = server / "python_backend_stubs" / sysconfig.get_python_version() / "triton_python_backend_stub"
    place = server / "backends" / "python" / stub.name
    if not place.exists():
        shutil.copy2(stub, place)
    return server / "backends"


def _write_repository(root: Path, task: Task, wire: Wire, setup: Setup) -> None:
    model = root / MODEL / "1"
    model.mkdir(parents=True)
    shutil.copy2(PROGRAMS / "triton_model.py", model / "model.py")
    shutil.copy2(PROGRAMS / "raw_model.py", model)
    (spec,) = (spec for spec in task.artifact.manifest.signature.outputs if spec.name == task.output)
    dtype = DTYPES[spec.dtype].name
    is_batched = setup.batch > 1
    shape = ", ".join(map(str, wire.shape))
    lines = [
        f'name: "{MODEL}"',
        'backend: "python"',
        f"max_batch_size: {setup.batch if is_batched else 0}",
        f'input [{{ name: "{wire.tensor}", data_type: {_DTYPES[wire.dtype]}, dims: [{shape}],',
        f"  allow_ragged_batch: {str(is_batched).lower()} }}]",
        f'output [{{ name: "{wire.output}", data_type: {_DTYPES[dtype]},',
        f"  dims: [{'-1' if is_batched else '-1, -1'}] }}]",
        f"instance_group [{{ kind: KIND_CPU, count: {setup.workers} }}]",
        f'parameters {{ key: "dtype", value: {{ string_value: "{dtype}" }} }}',
    ]
    if is_batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}")
    (root / MODEL / "config.pbtxt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def contender() -> Contender:
    return Contender("triton", NAME, all_setups(), requests, serving)
