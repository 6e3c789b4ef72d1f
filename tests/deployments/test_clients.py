"""Every client, encoding, datatype and odd shape, by models that give back what they get: no bit changes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from headrace.tensors import DTYPES, Array
from tests.conftest import Running
from tests.example_tensors import any_bits, example, same_bits
from tests.onnx_models import SCALARS, same

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ((1, 1), (2, 3), (2, 0), (0, 3), (3, 700))
BIG = (("FP64", (4, 200_000)), ("BF16", (1, 3_000_000)), ("BYTES", (4, 20_000)))  # over 4 MiB on the wire
HTTP_WAYS = {
    "JSON": (False, None, None),
    "JSON, gzip both ways": (False, "gzip", "gzip"),
    "binary": (True, None, None),
    "binary, gzip both ways": (True, "gzip", "gzip"),
    "binary, deflate both ways": (True, "deflate", "deflate"),
}


@dataclass(frozen=True, slots=True)
class Case:
    dtype: str
    array: Array

    @property
    def model(self) -> str:
        return same(self.dtype, min(self.array.ndim, 2))

    def __str__(self) -> str:
        return f"{self.dtype} {self.array.shape}"

    def is_same(self, found: Array | None) -> bool:
        return found is not None and same_bits(found, self.array)


def cases(*, is_json: bool = False) -> Iterator[Case]:
    """JSON has no BF16, and of NaNs only one; everything else travels with every bit."""
    make = example if is_json else any_bits
    for dtype in DTYPES:
        if not (is_json and dtype == "BF16"):
            yield from (Case(dtype, make(dtype, shape)) for shape in SHAPES)
            if dtype in SCALARS:
                yield Case(dtype, make(dtype, (1,)).reshape(()))
    if not is_json:
        yield from (Case(dtype, make(dtype, shape)) for dtype, shape in BIG)


def http_request(case: Case, way: str) -> dict[str, Any]:
    is_binary, request_compression, response_compression = HTTP_WAYS[way]
    tensor = triton_http.InferInput("x", list(case.array.shape), case.dtype)
    tensor.set_data_from_numpy(case.array, binary_data=is_binary)
    return {
        "model_name": case.model,
        "inputs": [tensor],
        "outputs": [triton_http.InferRequestedOutput("y", binary_data=is_binary)],
        "request_compression_algorithm": request_compression,
        "response_compression_algorithm": response_compression,
    }


def grpc_request(case: Case, compression: str | None) -> dict[str, Any]:
    tensor = triton_grpc.InferInput("x", list(case.array.shape), case.dtype)
    tensor.set_data_from_numpy(case.array)
    return {"model_name": case.model, "inputs": [tensor], "compression_algorithm": compression}


@pytest.mark.parametrize("way", HTTP_WAYS)
def test_tritonclient_http(running: Running, way: str) -> None:
    client = triton_http.InferenceServerClient(running.http)
    wrong = [
        str(case)
        for case in cases(is_json="JSON" in way)
        if not case.is_same(client.infer(**http_request(case, way)).as_numpy("y"))
    ]
    assert wrong == []


@pytest.mark.parametrize("way", HTTP_WAYS)
async def test_tritonclient_http_aio(running: Running, way: str) -> None:
    async with triton_http_aio.InferenceServerClient(running.http) as client:
        wrong = [
            str(case)
            for case in cases(is_json="JSON" in way)
            if not case.is_same((await client.infer(**http_request(case, way))).as_numpy("y"))
        ]
    assert wrong == []


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritonclient_grpc(running: Running, compression: str | None) -> None:
    client = triton_grpc.InferenceServerClient(running.grpc)
    wrong = [
        str(case)
        for case in cases()
        if not case.is_same(client.infer(**grpc_request(case, compression)).as_numpy("y"))
    ]
    assert wrong == []


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_tritonclient_grpc_aio(running: Running, compression: str | None) -> None:
    async with triton_grpc_aio.InferenceServerClient(running.grpc) as client:
        wrong = [
            str(case)
            for case in cases()
            if not case.is_same((await client.infer(**grpc_request(case, compression))).as_numpy("y"))
        ]
    assert wrong == []


def test_kserve_over_both(running: Running) -> None:
    """In a process of its own: its messages have the names of tritonclient's."""
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("the kserve package is not installed")
    command = [sys.executable, "-m", "tests.kserve_client", f"http://{running.http}", running.grpc]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["right"] > 250
    assert all(report["health"].values()), report["health"]
    for text in report["errors"]["rest"].values():
        assert text.startswith("HTTPStatusError") and "'4" in text, report["errors"]  # noqa: PT018
    assert report["errors"]["grpc"] == {
        "unknown model": "NOT_FOUND",
        "wrong datatype": "INVALID_ARGUMENT",
        "wrong shape": "INVALID_ARGUMENT",
        "timeout": "DEADLINE_EXCEEDED",
    }


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_health_and_metadata(running: Running, way: str) -> None:
    client: Any = {
        "http": lambda: triton_http.InferenceServerClient(running.http),
        "grpc": lambda: triton_grpc.InferenceServerClient(running.grpc),
    }[way]()
    as_json = {} if way == "http" else {"as_json": True}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("double")
    assert client.is_model_ready("double", "1")
    assert client.get_server_metadata(**as_json)["name"] == "headrace"
    found = client.get_model_metadata("double", **as_json)
    assert (found["name"], found["versions"], found["platform"]) == ("double", ["1", "2"], "onnxruntime")
    (tensor,) = found["inputs"]
    assert (tensor["name"], tensor["datatype"], [int(dim) for dim in tensor["shape"]]) == (
        "x",
        "FP32",
        [-1, -1],
    )


async def test_health_and_metadata_of_the_asynchronous_clients(running: Running) -> None:
    async with (
        triton_http_aio.InferenceServerClient(running.http) as http,
        triton_grpc_aio.InferenceServerClient(running.grpc) as grpc,
    ):
        for client in (http, grpc):
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("double", "2")
        assert (await http.get_model_metadata("double"))["versions"] == ["1", "2"]
        assert list((await grpc.get_model_metadata("double")).versions) == ["1", "2"]


X = np.zeros((2, 3), np.float32)
LARGE = np.zeros((1, 17 << 20), np.float32)
MISTAKES: dict[str, tuple[dict[str, Any], str, str, str]] = {  # arguments, HTTP status, gRPC code, words
    "unknown model": ({"model_name": "nobody"}, "404", "NOT_FOUND", "no model 'nobody'; served here"),
    "unknown version": ({"model_version": "9"}, "404", "NOT_FOUND", "has no version '9'"),
    "wrong datatype": ({"array": X.astype(np.float64)}, "400", "INVALID_ARGUMENT", "it must be FP32"),
    "wrong shape": ({"array": X.ravel()}, "400", "INVALID_ARGUMENT", "must have 2 dimensions"),
    "unknown input": ({"name": "z"}, "400", "INVALID_ARGUMENT", "unknown input 'z'"),
    "unknown output": ({"output": "q"}, "400", "INVALID_ARGUMENT", "unknown output 'q'"),
    "oversize": ({"array": LARGE}, "413", "RESOURCE_EXHAUSTED", "67108864"),
    "timeout": ({"model_name": "slow", "timeout": 1000}, "504", "DEADLINE_EXCEEDED", "timeout"),
    "priority": ({"priority": 2**31}, "400", "INVALID_ARGUMENT", "'priority' is 2147483648"),
}  # fmt: skip


def mistake(package: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    given = {"model_name": "double", "array": X, "name": "x", "output": "y", **arguments}
    array, name, output = (given.pop(key) for key in ("array", "name", "output"))
    tensor = package.InferInput(name, list(array.shape), f"FP{array.itemsize * 8}")
    tensor.set_data_from_numpy(array)
    return {**given, "inputs": [tensor], "outputs": [package.InferRequestedOutput(output)]}


async def raised(client: Any, request: dict[str, Any]) -> InferenceServerException:
    """What a client raises for this request, be it an asynchronous one or not."""
    try:
        answer = client.infer(**request)
        if asyncio.iscoroutine(answer):
            await answer
    except InferenceServerException as err:
        return err
    raise AssertionError("the request was answered")


@pytest.mark.parametrize("what", MISTAKES)
async def test_a_mistake_is_the_same_exception_in_every_client(running: Running, what: str) -> None:
    arguments, status, code, words = MISTAKES[what]
    async with (
        triton_http_aio.InferenceServerClient(running.http) as http_aio,
        triton_grpc_aio.InferenceServerClient(running.grpc) as grpc_aio,
    ):
        for package, client, wanted in (
            (triton_http, triton_http.InferenceServerClient(running.http), status),
            (triton_http, http_aio, status),
            (triton_grpc, triton_grpc.InferenceServerClient(running.grpc), f"StatusCode.{code}"),
            (triton_grpc, grpc_aio, f"StatusCode.{code}"),
        ):
            err = await raised(client, mistake(package, arguments))
            assert err.status() == wanted
            assert words in err.message()
            assert "Traceback" not in err.message()
