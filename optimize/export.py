"""A torch module as an ONNX file that was compared with the module before anyone uses it."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import ConfigRejected
from headrace.tensors import Array, TensorMap
from optimize.recipe import Predict

if TYPE_CHECKING:
    import torch

DynamicShapes = Mapping[str, Mapping[int, str]]

_OPSET = 20  # attention of opset 23 is rejected by ONNX Runtime
_LARGEST_FILE = 1_500_000_000  # bytes; a protobuf ends at 2 GB
_LARGEST_CHANGE = 1e-3  # of an output, relative to its largest value
_WAY_OUT = "or write the graph yourself and return the path of an ONNX file from model()"
_FIXED_DIM = re.compile(r"static shape of (\d+) for dimension inputs\['(\w+)'\]\.shape\[(\d+)\]")
_OPERATOR = re.compile(r"OpOverload\(op='([\w.:]+)'")


def predictor(model: torch.nn.Module, input_names: Sequence[str], output_names: Sequence[str]) -> Predict:
    """`model` as a function from named arrays to named arrays, run in eval mode without gradients.

    Outputs are those of forward() in order: a tensor, or a tuple, list or dict of tensors.
    """
    import torch

    def predict(inputs: TensorMap) -> TensorMap:
        model.eval()
        with torch.no_grad():
            given = {name: torch.tensor(inputs[name]) for name in input_names}
            outputs = [tensor.numpy() for tensor in tensors_in(model(**given))]
        if len(outputs) != len(output_names):
            raise ConfigRejected(
                f"forward() of the model gives {len(outputs)} tensors; outputs of the recipe names "
                f"{len(output_names)}: {list(output_names)}"
            )
        return dict(zip(output_names, outputs, strict=True))

    return predict


def output_names(model: torch.nn.Module, example: TensorMap, outputs: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the model's outputs: those given, else "output", or "output_0" and so on for several.

    ConfigRejected when forward() raises on the example, or when the names do not fit.
    """
    import torch

    model.eval()
    try:
        with torch.no_grad():
            count = len(tensors_in(model(**{name: torch.tensor(array) for name, array in example.items()})))
    except ConfigRejected:
        raise
    except Exception as err:
        raise ConfigRejected(
            f"forward() of the model raised {type(err).__name__} on an example: {first_line(err)}; "
            f"example_inputs() must name forward()'s arguments: {sorted(example)}"
        ) from err
    if not outputs:
        return ("output",) if count == 1 else tuple(f"output_{number}" for number in range(count))
    if len(outputs) != count or len(set(outputs)) != count:
        raise ConfigRejected(
            f"outputs of the recipe is {list(outputs)}; forward() gives {count} tensors: give {count} names"
        )
    if taken := sorted(set(outputs) & set(example)):
        raise ConfigRejected(f"outputs of the recipe: {taken[0]!r} is an input already; choose another name")
    return tuple(outputs)


def export_model(
    model: torch.nn.Module,
    examples: Sequence[TensorMap],
    dynamic_shapes: DynamicShapes,
    outputs: Sequence[str],
    target: Path,
) -> Path:
    """`target`, the ONNX file of `model`; the same weights give the same bytes.

    The file has answered every example, and the first one three times in one batch, as torch does
    (within 1e-3 of the largest value). ConfigRejected when it does not, or when the model does not
    export; then nothing is left at `target`. Weights over 1.5 GB go into a file beside it.
    """
    import torch

    if not examples:
        raise ConfigRejected("example_inputs() of the recipe must return a list of at least one request")
    names = output_names(model, examples[0], outputs)
    _check_axes(dynamic_shapes, examples[0])
    given = {n: torch.tensor(array) for n, array in widened(examples[0], dynamic_shapes, 2).items()}
    try:
        with quiet():
            program = torch.onnx.export(
                model,
                (),
                kwargs=given,
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes={name: dict(dynamic_shapes.get(name, {})) for name in given},
                verbose=False,
            )
    except Exception as err:
        raise ConfigRejected(
            f"the model does not export to ONNX: {_reason(err)}; change the model, {_WAY_OUT}"
        ) from err
    assert program is not None
    _name(program.model, tuple(given), names)
    _strip(program.model)
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    try:
        program.save(target, external_data=weights > _LARGEST_FILE)
        tried = [*examples, widened(examples[0], dynamic_shapes, 3)]
        _compare(predictor(model, tuple(given), names), target, tried)
    except BaseException:
        target.unlink(missing_ok=True)
        target.with_name(f"{target.name}.data").unlink(missing_ok=True)
        raise
    return target


def tensors_in(found: Any) -> list[torch.Tensor]:
    """The tensors that forward() gave, in order; an output that is None is no output."""
    import torch

    if isinstance(found, torch.Tensor):
        return [found]
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, tuple | list):
        return [tensor for part in found if part is not None for tensor in tensors_in(part)]
    raise ConfigRejected(
        f"forward() of the model gave {type(found).__name__}; it must give a tensor, or a tuple, list or "
        f"dict of tensors"
    )


def _check_axes(dynamic_shapes: DynamicShapes, example: TensorMap) -> None:
    for name, axes in dynamic_shapes.items():
        if name not in example:
            raise ConfigRejected(
                f"dynamic_shapes() of the recipe: no input {name!r}; there are {sorted(example)}"
            )
        for axis in axes:
            if not 0 <= axis < example[name].ndim:
                raise ConfigRejected(
                    f"dynamic_shapes() of the recipe: input '{name}' has no axis {axis}; it has "
                    f"{example[name].ndim} axes"
                )


def widened(example: TensorMap, dynamic_shapes: DynamicShapes, times: int) -> dict[str, Array]:
    """An example whose variable axes of size 1 are repeated: torch takes a size of 1 for a constant."""
    found = {name: np.asarray(array) for name, array in example.items()}
    for name, axes in dynamic_shapes.items():
        for axis in axes:
            if found[name].shape[axis] == 1:
                found[name] = np.repeat(found[name], times, axis)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch prints, logs and warns while it exports."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """Why an export failed, in one line, told by the error that began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    if fixed := _FIXED_DIM.search(text):
        size, name, axis = fixed.groups()
        return (
            f"its forward() fixes axis {axis} of input '{name}' to {size}; dynamic_shapes() calls it variable"
        )
    if operator := _OPERATOR.search(text):
        return f"the operator {operator[1]} has no ONNX form"
    if type(error).__name__ == "GuardOnDataDependentSymNode":
        return "its forward() branches on values of a tensor"
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _name(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Name inputs and outputs; an inner value that has one of these names already gives way."""
    named = dict(zip(map(id, model.graph.inputs), inputs, strict=True))
    named |= dict(zip(map(id, model.graph.outputs), outputs, strict=True))
    values = list(_values(model))
    taken = {value.name for value in values} | {*named.values()}
    for value in values:
        if id(value) not in named and value.name in named.values():
            value.name = next(n for i in range(len(taken) + 1) if (n := f"{value.name}_{i}") not in taken)
            taken.add(value.name)
    for value in values:
        value.name = named.get(id(value), value.name)


def _strip(model: Any) -> None:
    """Without torch's notes, which hold source paths of the machine that exported."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)
    for part in (model, model.graph, *_values(model)):
        part.metadata_props.clear()
        part.doc_string = None


def _values(model: Any) -> Iterator[Any]:
    """Every value of the graph (an onnx_ir.Model): inputs, weights, and what nodes give."""
    from onnx_ir.traversal import RecursiveGraphIterator

    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in RecursiveGraphIterator(model.graph):
        yield from node.outputs


def _compare(predict: Predict, graph: Path, examples: Sequence[TensorMap]) -> None:
    """ConfigRejected unless the graph, as ONNX Runtime runs it, answers the examples as `predict` does."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    except Exception as err:
        raise ConfigRejected(
            f"ONNX Runtime does not load the exported graph: {first_line(err)}; change the model, {_WAY_OUT}"
        ) from err
    taken = {value.name for value in session.get_inputs()}  # an input that changes nothing is not exported
    for number, example in enumerate(examples):
        wanted = predict(example)
        try:
            feeds = {name: array for name, array in example.items() if name in taken}
            found = dict(zip(wanted, session.run(list(wanted), feeds), strict=True))
        except Exception as err:
            raise ConfigRejected(
                f"the exported graph does not run on example {number}: {first_line(err)}; name every axis "
                f"that varies in dynamic_shapes(), {_WAY_OUT}"
            ) from err
        for name, array in wanted.items():
            change = _change(array, found[name])
            if not change <= _LARGEST_CHANGE:
                raise ConfigRejected(
                    f"the exported graph differs: '{name}' of example {number} is off by {change:.1e} of its "
                    f"largest value, allowed is {_LARGEST_CHANGE:g}; change the model, {_WAY_OUT}"
                )


def _change(wanted: Array, found: Array) -> float:
    """The largest difference relative to the largest value; infinite for another shape, nan for a nan."""
    if wanted.shape != found.shape:
        return float("inf")
    if wanted.size == 0:
        return 0.0
    first, second = wanted.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.where(first == second, 0.0, np.abs(first - second))  # equal infinities do not differ
    largest = np.abs(first[np.isfinite(first)]).max(initial=0.0)
    return float(difference.max() / max(largest, np.finfo(np.float32).tiny))
