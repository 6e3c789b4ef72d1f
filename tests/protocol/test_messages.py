"""Our messages are those that clients send, and the descriptor is what the .proto says."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from tritonclient.grpc import service_pb2 as triton

from protocol import messages

PROTO = Path(messages.__file__).with_name("open_inference.proto")
OURS = ("InferParameter", "InferTensorContents", *(f"{method}{end}" for method in messages.METHODS
        for end in ("Request", "Response")))  # fmt: skip


def test_the_descriptor_is_what_the_compiler_makes_of_the_proto(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    include = importlib.resources.files("grpc_tools") / "_proto"
    code = protoc.main(
        ["protoc", f"-I{PROTO.parent}", f"-I{include}", f"--descriptor_set_out={made}", str(PROTO)]
    )
    assert code == 0
    assert descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file[0] == messages.FILE


@pytest.mark.parametrize("name", OURS)
def test_every_field_is_that_of_tritons_own_message(name: str) -> None:
    ours = messages.POOL.FindMessageTypeByName(f"inference.{name}")
    assert_same(ours, triton.DESCRIPTOR.message_types_by_name[name])


def assert_same(ours: Any, theirs: Any) -> None:
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
        if field.message_type is not None:
            assert field.message_type.name == other.message_type.name
    for nested in ours.nested_types:
        assert_same(nested, theirs.nested_types_by_name[nested.name])


def test_the_service_has_tritons_names() -> None:
    theirs = triton.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert theirs.full_name == messages.SERVICE
    assert set(messages.METHODS) <= set(theirs.methods_by_name)
