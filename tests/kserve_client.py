"""The `kserve` package's own clients, unmodified, against a running server; prints what came of it as JSON.

python -m tests.kserve_client http://127.0.0.1:8000 127.0.0.1:9000

Importing `kserve` itself loads its server and its Kubernetes side with a dozen packages more, and versions of
protobuf and psutil older than ours: only the modules of its clients are loaded.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.tensors import DTYPES, Array
from tests.example_tensors import any_bits, example, same_bits
from tests.onnx_models import SCALARS, same

SHAPES = ((1, 1), (2, 3), (2, 0), (0, 3), (1, 40_000))
# What those modules import for the server's side and never use here.
UNUSED = {
    "pandas": ["DataFrame"],
    "cloudevents": [],
    "cloudevents.conversion": ["to_binary", "to_structured"],
    "cloudevents.http": ["CloudEvent"],
}
X = np.zeros((2, 3), np.float32)


def load_clients() -> tuple[Any, Any]:
    """kserve.inference_client and kserve.protocol.infer_type, without kserve's own __init__."""
    spec = importlib.util.find_spec("kserve")
    assert spec is not None
    package = types.ModuleType("kserve")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["kserve"] = package
    for name, wanted in UNUSED.items():
        module = types.ModuleType(name)
        module.__dict__.update(dict.fromkeys(wanted, object))
        sys.modules.setdefault(name, module)
    names = ("kserve.inference_client", "kserve.protocol.infer_type")
    client, infer_type = map(importlib.import_module, names)
    return client, infer_type


client, infer_type = load_clients()


def cases() -> Iterator[tuple[str, str, str, Array]]:
    """By which client, in which form, which datatype, what: all that the client can send.

    It knows no BF16, and FP16 only as raw bytes. Its REST side makes Python numbers of every answer,
    which keep no NaN's payload.
    """
    for by in ("REST", "gRPC"):
        for form in ("plain", "raw"):
            make = any_bits if (by, form) == ("gRPC", "raw") else example
            for dtype in sorted(set(DTYPES) - {"BF16"} - ({"FP16"} if form == "plain" else set())):
                for shape in SHAPES:
                    yield by, form, dtype, make(dtype, shape)
                if dtype in SCALARS:
                    yield by, form, dtype, make(dtype, (1,)).reshape(())


def request(model: str, dtype: str, array: Array, form: str, *, is_json: bool = False) -> Any:
    tensor = infer_type.InferInput("x", list(array.shape), dtype)
    if form == "raw":
        tensor.set_data_from_numpy(array, binary_data=True)
    else:
        items = array.reshape(-1).tolist()
        tensor.data = [item.decode() for item in items] if is_json and dtype == "BYTES" else items
    wanted = infer_type.RequestedOutput("y", parameters={"binary_data": form == "raw"})
    return infer_type.InferRequest(model, [tensor], request_outputs=[wanted])


def output(answer: Any) -> Array:
    return np.asarray(answer.outputs[0].as_numpy())


async def matrix(rest: Any, grpc: Any, url: str) -> tuple[int, list[str]]:
    """How many answers were the same to the bit, and what the others were."""
    right, wrong = 0, []
    for by, form, dtype, array in cases():
        model = same(dtype, array.ndim)
        asked = request(model, dtype, array, form, is_json=(by, form) == ("REST", "plain"))
        try:
            answer = rest.infer(url, asked, model_name=model) if by == "REST" else grpc.infer(asked)
            found = output(await answer)
        except Exception as err:
            wrong.append(f"{by} {form} {dtype} {array.shape}: {type(err).__name__} {err}")
            continue
        if same_bits(found, array):
            right += 1
        else:
            wrong.append(f"{by} {form} {dtype} {array.shape}: {found!r}")
    return right, wrong


async def errors(rest: Any, grpc: Any, url: str) -> dict[str, dict[str, str]]:
    mistakes = {
        "unknown model": ("nobody", "FP32", X, {}),
        "wrong datatype": ("double", "FP64", X.astype(np.float64), {}),
        "wrong shape": ("double", "FP32", X.ravel(), {}),
        "timeout": ("slow", "FP32", X, {"timeout": 0.02}),
    }
    told: dict[str, dict[str, str]] = {"rest": {}, "grpc": {}}
    for what, (model, dtype, array, options) in mistakes.items():
        asked = request(model, dtype, array, "raw")
        try:
            await grpc.infer(asked, **options)
        except Exception as err:
            told["grpc"][what] = err.code().name  # type: ignore[attr-defined]
        if not options:
            try:
                await rest.infer(url, asked, model_name=model)
            except Exception as err:
                told["rest"][what] = f"{type(err).__name__}: {err}"
    return told


async def main(url: str, target: str) -> None:
    logging.disable(logging.CRITICAL)  # it logs each error with a traceback
    rest = client.InferenceRESTClient(client.RESTConfig(protocol="v2"))
    async with rest, client.InferenceGRPCClient(target) as grpc:
        right, wrong = await matrix(rest, grpc, url)
        health = {
            "live": await rest.is_server_live(url),
            "ready": await rest.is_server_ready(url),
            "model": await rest.is_model_ready(url, "double"),
            "unknown model": not await rest.is_model_ready(url, "nobody"),
            "gRPC live": await grpc.is_server_live(),
            "gRPC ready": await grpc.is_server_ready(),
            "gRPC model": await grpc.is_model_ready("double"),
        }
        told = await errors(rest, grpc, url)
    print(json.dumps({"right": right, "wrong": wrong, "health": health, "errors": told}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
