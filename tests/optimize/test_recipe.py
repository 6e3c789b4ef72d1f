import numpy as np
import onnx
import pytest

from headrace.errors import ConfigRejected
from headrace.tensors import TensorSpec
from optimize.graphs import signature_of
from optimize.inputs import write_inputs
from optimize.prepare import read_calibration
from optimize.recipe import load_recipe, recipe_of


def _write(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


def test_a_recipe_is_prepared_with_all_it_says(make_recipe, prepare):
    recipe = make_recipe()
    made = prepare(recipe)
    assert made.facts["files"] == ["words.onnx"]
    assert made.signature.inputs[0].high == 1999
    assert len(made.examples) == 4
    assert recipe.grouping == "nearest"
    assert recipe.has("calibration")
    assert not recipe.has("train")


def test_every_missing_function_is_named_at_once(tmp_path):
    with pytest.raises(ConfigRejected, match=r"model\(\).*evaluate\(predict\).*example_inputs\(\)"):
        load_recipe(_write(tmp_path, "evaluate = 3"))


@pytest.mark.parametrize("text", ["def (", "import no_such_module_at_all", "1 / 0"])
def test_a_recipe_that_cannot_be_imported_says_why(tmp_path, text):
    with pytest.raises(ConfigRejected, match=r"mine\.py line 2: .*"):
        load_recipe(_write(tmp_path, f"import math\n{text}"))


def test_a_recipe_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigRejected, match="no recipe"):
        load_recipe(tmp_path / "none.py")


REST = "\ndef evaluate(predict): return 1\ndef example_inputs(): return []\n"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("return object()", r"mine\.py line 1: model\(\) returned object.*a torch module or a path"),
        ("return 'gone.onnx'", r"mine\.py line 1: .*'gone\.onnx', which is not a file"),
        ("raise OSError('disk')", r"mine\.py line 1: model\(\) raised OSError: disk"),
        ("return __file__", "not an ONNX model"),
    ],
)
def test_model_must_give_a_module_or_the_path_of_an_onnx_file(tmp_path, prepare, model, told):
    with pytest.raises(ConfigRejected, match=told):
        prepare(load_recipe(_write(tmp_path, f"def model(): {model}{REST}")))


def test_without_a_signature_it_is_that_of_the_graph(write_graph, tmp_path):
    path = write_graph(tmp_path / "words.onnx")
    signature = signature_of(onnx.load(path).graph)
    assert signature.inputs == (
        TensorSpec("ids", "INT64", ("batch", "length")),
        TensorSpec("mask", "INT64", ("batch", "length")),
    )
    assert signature.outputs == (TensorSpec("vector", "FP32", ("batch", 64)),)
    assert signature.is_batchable


@pytest.mark.parametrize("first", ["N", "batch", "Batch_dim"])
def test_the_first_dimension_is_renamed_when_it_means_the_batch(first):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [first, "n", None, 3])
    graph = onnx.helper.make_graph([], "g", [value], [])
    assert signature_of(graph).inputs[0].shape == ("batch", "n", "x_2", 3)


@pytest.mark.parametrize(
    ("examples", "told"),
    [
        ("[]", "at least one"),
        ("[{'ids': np.zeros((1, 2))}]", "example 0 .*FP64; it must be INT64"),
        ("[row(2), {name: np.vstack([a, a]) for name, a in row(2).items()}]", "example 1 .*2 rows"),
        ("[row(99)]", "largest allowed is 32"),
    ],
)
def test_examples_must_be_single_rows_that_fit(make_recipe, prepare, examples, told):
    recipe = make_recipe(more=f"def example_inputs(): return {examples}")
    with pytest.raises(ConfigRejected, match=rf"recipe\.py line \d+: .*{told}"):
        prepare(recipe)


def test_grouping_is_one_of_two(make_recipe):
    with pytest.raises(ConfigRejected, match="'buckets'; it must be 'exact' or 'nearest'"):
        make_recipe(grouping="buckets")


def test_external_weights_come_along_and_others_are_refused(make_recipe, prepare, tmp_path):
    recipe = make_recipe()
    path = tmp_path / "words.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin")
    assert prepare(recipe).facts["files"] == ["weights.bin", "words.onnx"]
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ConfigRejected, match="weights"):
        prepare(recipe)


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        ("return []", "gave no input"),
        ("return 3", "returned int, not inputs"),
        ("return [row(2), {'ids': row(2)['ids']}]", "calibration input 1 does not fit the model: .*missing"),
        ("return [3]", "calibration input 0 does not fit"),
        ("yield row(2); 1 / 0", "raised ZeroDivisionError"),
    ],
)
def test_calibration_inputs_are_checked_with_their_line(make_recipe, prepare, calibration, told):
    recipe = make_recipe(calibration=calibration)
    signature = prepare(recipe).signature
    with pytest.raises(ConfigRejected, match=rf"recipe\.py line \d+: .*{told}"):
        list(read_calibration(recipe, signature))


def test_calibration_goes_on_where_it_had_stopped(make_recipe, prepare):
    recipe = make_recipe()
    signature = prepare(recipe).signature
    every = list(read_calibration(recipe, signature))
    rest = list(read_calibration(recipe, signature, skip=10))
    assert len(every) == 12
    assert [row["ids"].tolist() for row in rest] == [row["ids"].tolist() for row in every[10:]]


def test_its_digest_follows_what_it_says_and_what_it_imports(tmp_path):
    (tmp_path / "beside_it.py").write_text("VALUE = 1")
    text = "import beside_it\ndef model(): ...\ndef evaluate(p): ...\ndef example_inputs(): ..."
    path = _write(tmp_path, text)
    first = load_recipe(path).digest()
    assert load_recipe(path).digest() == first
    (tmp_path / "beside_it.py").write_text("VALUE = 2")
    assert load_recipe(path).digest() != first


def test_functions_of_a_program_make_a_recipe_too():
    recipe = recipe_of(model=str, evaluate=len, example_inputs=list)
    assert recipe.call("evaluate", "abc") == 3
    assert recipe.path is None
    with pytest.raises(ConfigRejected, match=r"lacks: model.*unknown: models"):
        recipe_of(models=str, evaluate=len, example_inputs=list)


def test_inputs_of_a_file_take_the_place_of_calibration(make_recipe, prepare, tmp_path):
    plain = make_recipe()
    ids = np.array([[1, 2, 3]])
    write_inputs(tmp_path / "in.npz", [{"ids": ids, "mask": np.ones_like(ids)}])
    recipe = load_recipe(plain.path, tmp_path / "in.npz")
    (found,) = read_calibration(recipe, prepare(recipe).signature)
    assert found["ids"].tolist() == ids.tolist()
    assert recipe.digest() != plain.digest()  # so that no job of the other is taken over


def test_a_recipe_without_calibration_may_be_calibrated_by_a_file(tmp_path):
    write_inputs(tmp_path / "in.npz", [])
    path = _write(tmp_path, f"def model(): return 'm.onnx'{REST}")
    assert not load_recipe(path).has("calibration")
    assert load_recipe(path, tmp_path / "in.npz").has("calibration")
