import onnx
import pytest

from headrace.errors import ConfigRejected
from headrace.tensors import TensorSpec
from optimize.recipe import load_recipe, signature_of


def _write(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


def test_a_recipe_is_loaded_with_all_it_says(make_recipe, tmp_path):
    recipe = make_recipe()
    assert recipe.graph == "words.onnx"
    assert recipe.files == {"words.onnx": tmp_path / "words.onnx"}
    assert recipe.signature.inputs[0].high == 1999
    assert len(recipe.examples) == 4
    assert recipe.grouping == "nearest"


def test_every_missing_function_is_named_at_once(tmp_path):
    with pytest.raises(ConfigRejected, match=r"model\(\).*evaluate\(predict\).*example_inputs\(\)"):
        load_recipe(_write(tmp_path, "evaluate = 3"))


@pytest.mark.parametrize("text", ["def (", "import no_such_module_at_all", "1 / 0"])
def test_a_recipe_that_cannot_be_imported_says_why(tmp_path, text):
    with pytest.raises(ConfigRejected, match=r"mine\.py cannot be imported: \w+Error"):
        load_recipe(_write(tmp_path, text))


def test_a_recipe_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigRejected, match="no recipe"):
        load_recipe(tmp_path / "none.py")


REST = "\ndef evaluate(predict): return 1\ndef example_inputs(): return []\n"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("return object()", "returned object.*path of an ONNX file"),
        ("return 'gone.onnx'", r"'gone\.onnx', which is not a file"),
        ("raise OSError('disk')", r"model\(\) of the recipe raised OSError: disk"),
        ("return __file__", "not an ONNX model"),
    ],
)
def test_model_must_give_the_path_of_an_onnx_file(tmp_path, model, told):
    with pytest.raises(ConfigRejected, match=told):
        load_recipe(_write(tmp_path, f"def model(): {model}{REST}"))


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
def test_examples_must_be_single_rows_that_fit(make_recipe, tmp_path, examples, told):
    make_recipe()
    path = tmp_path / "recipe.py"
    changed = f"{path.read_text()}\ndef example_inputs(): return {examples}\n"
    with pytest.raises(ConfigRejected, match=told):
        load_recipe(_write(tmp_path, changed))


def test_grouping_is_one_of_two(make_recipe):
    with pytest.raises(ConfigRejected, match="'buckets'; it must be 'exact' or 'nearest'"):
        make_recipe(grouping="buckets")


def test_external_weights_come_along_and_others_are_refused(make_recipe, tmp_path):
    recipe = make_recipe()
    path = tmp_path / "words.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin")
    assert set(load_recipe(recipe.path).files) == {"words.onnx", "weights.bin"}
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ConfigRejected, match="weights"):
        load_recipe(recipe.path)
