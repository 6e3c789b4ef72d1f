"""Where a graph can be cut in two at one tensor, and the two parts."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigRejected

if TYPE_CHECKING:
    import onnx

_NEAREST = 5  # names in a message
LIST = "'headrace split NAME --at list' prints where it can be cut"


def put_in_order(graph: onnx.GraphProto) -> None:
    """Put every node behind those that it reads from, as ONNX asks and not every tool does.

    All that is said here of a graph holds for one in order.
    """
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = {
        number: [makers[name] for name in _reads(node) if name in makers]
        for number, node in enumerate(graph.node)
    }
    nodes = [graph.node[number] for number in TopologicalSorter(needs).static_order()]
    _keep(graph.node, nodes)


def cut_points(graph: onnx.GraphProto) -> list[str]:
    """Every tensor that alone leads from the inputs to the outputs, in the order of computation.

    These are the tensors that, right after their node, are the only ones still to be read.
    """
    between = _between(graph)
    last = {name: number for number, node in enumerate(graph.node) for name in _reads(node)}
    last |= {value.name: len(graph.node) for value in graph.output}
    ends: list[list[str]] = [[] for _ in range(len(graph.node) + 1)]
    for name in between:
        ends[last[name]].append(name)
    outer = {value.name for value in (*graph.input, *graph.output)}
    unread = {value.name for value in graph.input} & between
    found: list[str] = []
    for number, node in enumerate(graph.node):
        unread.difference_update(ends[number])
        made = between.intersection(node.output)
        unread |= made
        if made and len(unread) == 1 and not made & outer:
            found += unread
    return found


def constants(graph: onnx.GraphProto) -> set[str]:
    """The names of its initializers."""
    sparse = (tensor.values.name for tensor in graph.sparse_initializer)
    return {*(tensor.name for tensor in graph.initializer), *sparse}


def _between(graph: onnx.GraphProto) -> set[str]:
    """Tensors that depend on an input and that an output depends on."""
    dependent = {value.name for value in graph.input} - constants(graph)
    for node in graph.node:
        if not dependent.isdisjoint(_reads(node)):
            dependent.update(filter(None, node.output))
    needed = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(_reads(node))
    return dependent & needed


def check_cut(graph: onnx.GraphProto, at: str) -> None:
    """ConfigRejected says why a graph cannot be cut at a tensor, and where it can."""
    points = cut_points(graph)
    if at in points:
        return
    kinds = {
        "an input": {value.name for value in graph.input},
        "an output": {value.name for value in graph.output},
        "a constant": constants(graph),
    }
    for kind, names in kinds.items():
        if at in names:
            raise ConfigRejected(f"'{at}' is {kind} of the model, where there is nothing to cut; {LIST}")
    order = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    if at not in order:
        near = difflib.get_close_matches(at, order, _NEAREST, cutoff=0)
        raise ConfigRejected(f"the model has no tensor {at[:128]!r}; the nearest names: {near}; {LIST}")
    if at not in _between(graph):
        raise ConfigRejected(f"'{at}' does not lie between an input and an output of the model; {LIST}")
    crossing = _crossing(graph, at)
    more = f" and {len(crossing) - _NEAREST} more" if len(crossing) > _NEAREST else ""
    after = next((point for point in points if order[point] > order[at]), "")
    hint = f"the next tensor that can be cut at is '{after}'; " if after else ""
    raise ConfigRejected(
        f"the model cannot be cut at '{at}' alone: behind the cut {crossing[:_NEAREST]}{more} would be "
        f"needed, too; {hint}{LIST}"
    )


def _crossing(graph: onnx.GraphProto, at: str) -> list[str]:
    """What the head reads besides `at` and what it can make of it."""
    between = _between(graph)
    behind = {at}
    found: dict[str, None] = {}  # in the order of computation
    for node in graph.node:
        reads = _reads(node)
        if not behind.isdisjoint(reads):
            behind.update(filter(None, node.output))
            found |= dict.fromkeys(name for name in reads if name in between)
    found |= dict.fromkeys(value.name for value in graph.output)
    return [name for name in found if name not in behind]


def part_of(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The model with the nodes and constants alone that lead from these inputs to these outputs.

    onnx.utils.extract_model overlooks what a subgraph reads, and takes no quantized models.
    """
    import onnx

    graph = model.graph
    given = {value.name for value in inputs}
    needed = {value.name for value in outputs}
    nodes = []
    for node in reversed(graph.node):
        if not (needed - given).isdisjoint(node.output):
            nodes.append(node)
            needed.update(_reads(node))
    found = onnx.ModelProto()
    found.CopyFrom(model)  # with versions, functions and notes
    found.ir_version = max(model.ir_version, 4)  # before, constants had to be inputs, too
    del found.graph.node[:], found.graph.input[:], found.graph.output[:]
    found.graph.node.extend(reversed(nodes))
    found.graph.input.extend(inputs)
    found.graph.output.extend(outputs)
    told = given | {value.name for value in outputs}
    inner = {name for node in nodes for name in node.output} - told
    _keep(found.graph.initializer, [t for t in graph.initializer if t.name in needed])
    _keep(found.graph.sparse_initializer, [t for t in graph.sparse_initializer if t.values.name in needed])
    _keep(found.graph.value_info, [value for value in graph.value_info if value.name in inner])
    notes = [note for note in graph.quantization_annotation if note.tensor_name in needed]
    _keep(found.graph.quantization_annotation, notes)
    return found


def _keep(field: Any, wanted: Sequence[Any]) -> None:
    """A repeated field of a message with these entries alone."""
    del field[:]
    field.extend(wanted)


def _reads(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node needs, those that only its subgraphs name included."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            found += _reads_from_outside(inner)
    return found


def _reads_from_outside(graph: onnx.GraphProto) -> Iterator[str]:
    own = constants(graph) | {value.name for value in graph.input}
    own |= {name for node in graph.node for name in node.output}
    reads = (name for node in graph.node for name in _reads(node))
    yield from (name for name in (*reads, *(value.name for value in graph.output)) if name not in own)
