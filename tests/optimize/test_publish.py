from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from engines.artifact import Repository
from headrace.errors import ConfigRejected
from optimize.publish import publish
from tests import letters


def graph(folder: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    made = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_graph_is_published_as_it_is_under_the_next_number(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    assert publish(graph(tmp_path), repository, "same").manifest.version == "1"
    second = publish(graph(tmp_path), repository, "same")
    assert second.manifest.version == "2"
    assert second.manifest.signature.is_batchable
    assert publish(graph(tmp_path), repository, "same", "v9").manifest.version == "v9"


def test_code_is_published_with_its_files_and_its_signature(tmp_path: Path) -> None:
    made = publish(Path(letters.__file__), Repository(tmp_path), "letters").manifest
    assert (made.engine, made.graph, made.precision) == ("python", "letters.py", "code")
    assert set(made.files) == {"letters.py", letters.OFFSET}
    assert made.signature == letters.signature()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("step.py", "def signature():\n    return 3\n", r"signature\(\) of step.py returned int"),
        ("model.onnx", "no graph", "'model.onnx' is neither an ONNX graph nor a Python file"),
    ],
)
def test_what_cannot_be_published_is_refused(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigRejected, match=problem):
        publish(tmp_path / name, Repository(tmp_path / "models"), "x")
    assert not (tmp_path / "models").exists()


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected, match="is not a file; give an ONNX graph"):
        publish(tmp_path / "gone.onnx", Repository(tmp_path), "x")
    (tmp_path / "step.py").write_text(Path(letters.__file__).read_text())
    with pytest.raises(ConfigRejected, match=r"files\(\) of step.py names 'offset.txt'"):
        publish(tmp_path / "step.py", Repository(tmp_path), "x")


def test_a_name_that_could_be_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected, match="is no name for a model"):
        publish(graph(tmp_path), Repository(tmp_path), "a/b")


def test_rows_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    code = Path(letters.__file__).read_text().replace('("batch",)', '("rows",)')
    (tmp_path / "step.py").write_text(code)
    with pytest.raises(ConfigRejected, match="begin with the dimension 'batch'"):
        publish(tmp_path / "step.py", Repository(tmp_path), "x")
