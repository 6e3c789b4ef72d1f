import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engines.artifact import Repository
from engines.load import load
from examples.minilm import graph as minilm
from examples.minilm.builder import GraphBuilder
from headrace.errors import ConfigRejected
from headrace.tensors import Signature, TensorSpec
from optimize.cut import cut_points as points_of
from optimize.split import check_split, cut_points, split, split_artifact
from tests.processes import headrace

WIDTH = 8


def _value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


@pytest.fixture
def net(tmp_path):
    """x -> first -> positive -> second, + positive = summed -> y; both products are scaled alike."""
    random = np.random.default_rng(0)
    graph = GraphBuilder()
    weights = [
        graph.constant(name, random.standard_normal((WIDTH, WIDTH)).astype(np.float32)) for name in "abc"
    ]
    scale = graph.op("Exp", graph.scalar("log_scale", 0.5), output="scale")
    graph.op("MatMul", "x", weights[0], output="first")
    graph.op("Relu", graph.op("Mul", "first", scale, output="scaled"), output="positive")
    graph.op("MatMul", "positive", weights[1], output="second")
    graph.op("Add", "second", "positive", output="summed")
    graph.op("MatMul", graph.op("Mul", "summed", scale, output="last"), weights[2], output="y")
    shape = ("batch_size", "length", WIDTH)
    model = graph.model([_value("x", *shape)], [_value("y", *shape)], 20, 9)
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def parts(tmp_path):
    return tmp_path / "backbone.onnx", tmp_path / "head.onnx"


@pytest.fixture
def repository(tmp_path, net):
    """The net as 'net/1', whose dimensions have other names than in the graph."""
    repository = Repository(tmp_path / "models")
    shape = ("batch", "words", WIDTH)
    signature = Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", shape),), {"words": 9})
    warm_up = ({"batch": 1, "words": 2}, {"batch": 3, "words": 5})
    files = {"model.onnx": net}
    repository.publish(
        "net", "1", files, graph="model.onnx", signature=signature, warm_up=warm_up, grouping="nearest"
    )
    return repository


def _row(batch=2, length=3):
    return {"x": np.random.default_rng(batch).standard_normal((batch, length, WIDTH)).astype(np.float32)}


def _answer(path, row):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, row)[0]


def _constants(path):
    return {tensor.name for tensor in onnx.load(path).graph.initializer}


def test_every_tensor_that_alone_leads_on_is_a_cut_point(net):
    assert cut_points(net) == ["first", "scaled", "positive", "summed", "last"]


def test_the_joined_parts_answer_as_the_whole(net, parts):
    for at in cut_points(net):
        split(net, at, *parts)
        for path in parts:
            onnx.checker.check_model(path, full_check=True)
        check_split(net, *parts, [_row(), _row(1, 1)])
        row = _row(3, 4)
        found = _answer(parts[1], {at: _answer(parts[0], row)})
        assert found == pytest.approx(_answer(net, row), rel=1e-5)


def test_each_part_has_the_constants_that_it_needs(net, parts):
    split(net, "positive", *parts)
    assert [_constants(path) for path in parts] == [{"a", "log_scale"}, {"b", "c", "log_scale"}]


def test_variable_dimensions_stay_variable(net, parts):
    split(net, "positive", *parts)
    (value,) = onnx.load(parts[1]).graph.input
    assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == [
        "batch_size",
        "length",
        WIDTH,
    ]


def test_a_residual_connection_across_the_cut_is_named(net, parts):
    with pytest.raises(ConfigRejected, match=r"'second' alone: .*\['positive'\].* at is 'summed'"):
        split(net, "second", *parts)
    assert not any(path.exists() for path in parts)


def test_nodes_may_stand_in_any_order(net, parts):
    model = onnx.load(net)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, net)
    assert cut_points(net) == ["first", "scaled", "positive", "summed", "last"]
    split(net, "positive", *parts)
    for path in parts:
        onnx.checker.check_model(path, full_check=True)
    check_split(net, *parts, [_row()])


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("x", "an input"),
        ("y", "an output"),
        ("a", "a constant"),
        ("scale", "between an input and an output"),
        ("sumed", r"no tensor 'sumed'; the nearest names: \['summed', .*--at list"),
    ],
)
def test_what_is_no_inner_tensor_is_refused(net, parts, at, words):
    with pytest.raises(ConfigRejected, match=words):
        split(net, at, *parts)


def test_an_output_before_the_cut_crosses_it(net, parts):
    model = onnx.load(net)
    model.graph.output.append(_value("first", "batch_size", "length", WIDTH))
    onnx.save(model, net)
    assert cut_points(net) == []
    with pytest.raises(ConfigRejected, match=r"\['first'\] would be needed"):
        split(net, "positive", *parts)


def test_what_only_a_subgraph_reads_crosses_the_cut_too(net, parts):
    model = onnx.load(net)
    inner = [
        helper.make_graph([helper.make_node("Add", ["first", "positive"], [name])], name, [], [_value(name)])
        for name in ("then", "else")
    ]
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    model.graph.initializer.append(yes)
    node = helper.make_node("If", ["yes"], ["chosen"], then_branch=inner[0], else_branch=inner[1])
    model.graph.node.insert(len(model.graph.node) - 1, node)
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Add", ["last", "chosen"], ["both"]))
    model.graph.node[-1].input[0] = "both"
    onnx.save(model, net)
    with pytest.raises(ConfigRejected, match=r"\['first'\] would be needed"):
        split(net, "positive", *parts)
    split(net, "first", *parts)
    check_split(net, *parts, [_row()])


def test_constants_that_are_listed_as_inputs_are_no_inputs_of_a_part(net, parts):
    model = onnx.load(net)
    model.graph.input.extend(_value(tensor.name, *tensor.dims) for tensor in model.graph.initializer)
    model.ir_version = 3
    onnx.save(model, net)
    split(net, "summed", *parts)
    names = [[value.name for value in onnx.load(path).graph.input] for path in parts]
    assert names == [["x"], ["summed"]]
    check_split(net, *parts, [_row()])


def test_parts_of_another_model_are_told_from_the_whole(net, parts):
    split(net, "summed", *parts)
    head = onnx.load(parts[1])
    (weight,) = (tensor for tensor in head.graph.initializer if tensor.name == "c")
    changed = onnx.numpy_helper.to_array(weight) * np.float32(1 + 1e-6)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, "c"))
    onnx.save(head, parts[1])
    with pytest.raises(ConfigRejected, match=r"'y' changes by .* without any optimization"):
        check_split(net, *parts, [_row()])


def test_every_joint_of_a_long_chain_of_residual_blocks_is_a_cut_point():
    nodes = []
    for number in range(1000):
        nodes.append(helper.make_node("Relu", [f"t{number}"], [f"u{number}"]))
        nodes.append(helper.make_node("Add", [f"u{number}", f"t{number}"], [f"t{number + 1}"]))
    graph = helper.make_graph(nodes, "long", [_value("t0")], [_value("t1000")])
    assert points_of(graph) == [f"t{number}" for number in range(1, 1000)]


def test_the_sentence_encoder_can_be_cut_where_its_mask_has_been_used(tmp_path):
    path = minilm.write(tmp_path / "model.onnx")
    (at,) = cut_points(path)
    with pytest.raises(ConfigRejected, match="would be needed, too"):
        split(path, onnx.load(path).graph.node[60].output[0], tmp_path / "b.onnx", tmp_path / "h.onnx")
    split(path, at, tmp_path / "b.onnx", tmp_path / "h.onnx")
    (value,) = onnx.load(tmp_path / "h.onnx").graph.input
    dims = value.type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value) == ("batch", minilm.HIDDEN)


def test_both_parts_are_published_with_the_names_of_the_version(repository):
    backbone, head = split_artifact(repository, "net", "1", "summed", "front", "back")
    spec = TensorSpec("summed", "FP32", ("batch", "words", WIDTH))
    told = [artifact.manifest for artifact in (backbone, head)]
    assert [(part.name, part.version) for part in told] == [("front", "1"), ("back", "1")]
    assert told[0].signature.outputs == told[1].signature.inputs == (spec,)
    assert told[0].signature.inputs[0].shape == told[1].signature.outputs[0].shape == spec.shape
    assert [part.signature.limits for part in told] == [{"words": 9}] * 2
    assert [part.warm_up for part in told] == [repository.open("net", "1").manifest.warm_up] * 2
    assert [part.grouping for part in told] == ["nearest", "exact"]


def test_published_parts_answer_joined_as_the_version_does(repository):
    made = split_artifact(repository, "net", "1", "positive", "front", "back")
    whole, backbone, head = (load(part, threads=1) for part in (repository.open("net", "1"), *made))
    assert head.run(backbone.run(_row()))["y"] == pytest.approx(whole.run(_row())["y"], rel=1e-5)


def test_splitting_again_makes_the_next_versions(repository):
    split_artifact(repository, "net", "1", "positive", "front", "back")
    again = split_artifact(repository, "net", "1", "summed", "front", "back")
    assert [artifact.manifest.version for artifact in again] == ["2", "2"]


@pytest.mark.parametrize("names", [("front", "front"), ("front", "a/b"), ("..", "back")])
def test_names_that_cannot_be_are_refused_before_anything_is_written(repository, names):
    with pytest.raises(ConfigRejected):
        split_artifact(repository, "net", "1", "summed", *names)
    assert repository.names() == ["net"]


def test_a_cut_that_mixes_rows_is_refused(tmp_path):
    graph = GraphBuilder()
    graph.op("Reshape", "x", graph.integers(-1), output="flat")
    graph.op("Reshape", graph.op("Relu", "flat", output="inner"), graph.integers(-1, WIDTH), output="y")
    model = graph.model([_value("x", "batch", WIDTH)], [_value("y", "batch", WIDTH)], 20, 9)
    repository = Repository(tmp_path)
    signature = Signature(
        *((TensorSpec(name, "FP32", ("batch", WIDTH)),) for name in "xy"),  # type: ignore[arg-type]
    )
    files = {"model.onnx": model.SerializeToString()}
    repository.publish("flat", "1", files, graph="model.onnx", signature=signature)
    with pytest.raises(ConfigRejected, match="does not begin with the batch"):
        split_artifact(repository, "flat", "1", "inner", "front", "back")
    assert repository.names() == ["flat"]


def test_the_command_lists_cut_points_and_cuts(repository):
    at = ["--repository", str(repository.root), "--at"]
    listed = headrace("split", "net", *at, "list")
    assert listed.stdout.split() == ["first", "scaled", "positive", "summed", "last"], listed.stderr
    done = headrace("split", "net/1", *at, "summed", "--head", "back")
    assert done.stdout.startswith("net-backbone/1:"), done.stderr
    assert repository.versions("back") == ["1"]
    refused = headrace("split", "net/1", *at, "second")
    assert refused.returncode == 2
    assert "'positive'" in refused.stderr
    assert "Traceback" not in refused.stderr
