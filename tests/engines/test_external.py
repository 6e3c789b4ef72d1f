from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.external import external_files
from engines.load import load
from headrace.errors import ArtifactRejected


@pytest.fixture
def split_files(graph_bytes: bytes, tmp_path: Path) -> dict[str, Path]:
    """The small model with its weights in a second file."""
    model = onnx.ModelProto.FromString(graph_bytes)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=90)
    return {"model.onnx": path, "weights.bin": tmp_path / "weights.bin"}


def _pointing_to(path: Path, location: str) -> bytes:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    return model.SerializeToString()


def test_external_weights_give_the_same_answers(publish, split_files):
    inputs = {"ids": np.array([[1, 2]]), "mask": np.array([[1, 1]])}
    inside = load(publish("1"), threads=1).run(inputs)
    outside = load(publish("2", files=split_files), threads=1).run(inputs)
    np.testing.assert_array_equal(inside["vector"], outside["vector"])


def test_external_weights_are_part_of_the_digest(repository, publish, split_files):
    first = publish("1", files=split_files)
    weights = split_files["weights.bin"]
    weights.write_bytes(weights.read_bytes()[::-1])
    assert publish("2", files=split_files).digest != first.digest


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "other.bin", "", "*/_ORT_MEM_ADDR_/*"])
def test_weights_from_elsewhere_are_refused(publish, split_files, location):
    graph = _pointing_to(split_files["model.onnx"], location)
    published = publish(files={"model.onnx": graph, "weights.bin": split_files["weights.bin"]})
    with pytest.raises(ArtifactRejected, match="no file of its own"):
        load(published, threads=1)


def test_a_tensor_in_an_attribute_of_a_subgraph_is_found(split_files):
    hidden = onnx.load(split_files["model.onnx"], load_external_data=False).graph.initializer[0]
    hidden.external_data[0].value = "/etc/passwd"
    constant = onnx.helper.make_node("Constant", [], ["c"], value=hidden)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "outer", [], []))
    with pytest.raises(ArtifactRejected, match="/etc/passwd"):
        external_files(model.SerializeToString(), {"weights.bin"})


def test_what_is_no_graph_is_refused():
    with pytest.raises(ArtifactRejected, match="not an ONNX model"):
        external_files(b"\xff\xff garbage", set())
