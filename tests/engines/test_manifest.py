import json

import pytest

from engines.manifest import make_manifest, parse_manifest
from headrace.errors import ArtifactRejected
from headrace.tensors import Signature, TensorSpec

FILE = {"sha256": "0" * 64, "size": 1}


def _parts(**changes: object) -> dict[str, object]:
    spec = TensorSpec("x", "FP32", ("batch", 2))
    parts = {
        "name": "text",
        "version": "1",
        "engine": "onnxruntime",
        "engine_version": "1",
        "cpu_flags": ("avx2",),
        "graph": "model.onnx",
        "signature": Signature((spec,), (spec,)),
        "precision": "fp32",
        "files": {"model.onnx": FILE},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return {**parts, **changes}


def test_a_manifest_survives_json():
    manifest = make_manifest(**_parts())
    assert parse_manifest(manifest.model_dump_json().encode()) == manifest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"surprise": 1}, "surprise"),
        ({"format": 2}, "format"),
        ({"graph": "other.onnx"}, "other.onnx"),
        ({"graph": "report.html", "files": {"report.html": FILE}}, "report.html"),
        ({"files": {"model.onnx": FILE, "../x": FILE}}, "plain file name"),
        ({"files": {"model.onnx": {"sha256": "zz", "size": 1}}}, "sha256"),
        ({"files": {"model.onnx": {"sha256": "0" * 64, "size": "1"}}}, "size"),
        ({"figures": {"accuracy": float("nan")}}, "accuracy"),
        ({"warm_up": ({"batch": 0},)}, "warm_up"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_a_wrong_part_is_named(changes, told):
    with pytest.raises(ArtifactRejected, match=told):
        make_manifest(**_parts(**changes))


def test_a_signature_is_checked_to_its_last_field():
    told = json.loads(make_manifest(**_parts()).model_dump_json())
    told["signature"]["inputs"][0]["dtype"] = "FP31"
    with pytest.raises(ArtifactRejected, match="FP31"):
        parse_manifest(json.dumps(told).encode())
    told["signature"]["inputs"][0] |= {"dtype": "FP32", "surprise": 1}
    with pytest.raises(ArtifactRejected, match="surprise"):
        parse_manifest(json.dumps(told).encode())


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ArtifactRejected):
        parse_manifest(data)
