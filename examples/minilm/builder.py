"""A few words for writing down an ONNX graph node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.tensors import Array

if TYPE_CHECKING:
    import onnx


class GraphBuilder:
    """Nodes and constants in the order they are asked for. Methods return names of tensors."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """One node with one output."""
        return self._add(kind, inputs, [output or f"{kind}_{len(self._nodes)}"], attributes)[0]

    def split(self, joined: str, parts: int) -> list[str]:
        """`joined` cut into equal parts along its last axis."""
        names = [f"Split_{len(self._nodes)}_{part}" for part in range(parts)]
        return self._add("Split", (joined,), names, {"axis": -1, "num_outputs": parts})

    def constant(self, name: str, value: Array) -> str:
        from onnx import numpy_helper

        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        """A constant list of axes or sizes, made once however often it is asked for."""
        return self.constant(f"integers_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> str:
        from onnx import numpy_helper

        self._constants[name] = numpy_helper.from_array(np.array(value, np.float32), name)
        return name

    def model(
        self,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        opset: int,
        ir_version: int,
    ) -> onnx.ModelProto:
        """The checked model."""
        from onnx import checker, helper

        graph = helper.make_graph(self._nodes, "graph", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
        )
        checker.check_model(model)
        return model

    def _add(
        self, kind: str, inputs: tuple[str, ...], outputs: list[str], attributes: dict[str, Any]
    ) -> list[str]:
        from onnx import helper

        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs
