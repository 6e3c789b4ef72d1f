"""The protocol's gRPC messages as protobuf classes.

They live in a pool of their own: clients (tritonclient, kserve) register messages of the same names in
the process's common pool, which refuses a second one, and may so be used beside ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
FILE = descriptor_pb2.FileDescriptorSet.FromString(
    Path(__file__).with_name("open_inference.binpb").read_bytes()
).file[0]

POOL = descriptor_pool.DescriptorPool()
POOL.Add(FILE)
METHODS: tuple[str, ...] = tuple(POOL.FindServiceByName(SERVICE).methods_by_name)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


ServerLiveResponse = _message("ServerLiveResponse")
ServerReadyResponse = _message("ServerReadyResponse")
ModelReadyResponse = _message("ModelReadyResponse")
ServerMetadataResponse = _message("ServerMetadataResponse")
ModelMetadataRequest = _message("ModelMetadataRequest")
ModelMetadataResponse = _message("ModelMetadataResponse")
ModelInferRequest = _message("ModelInferRequest")
ModelInferResponse = _message("ModelInferResponse")
