"""The recipe for `headrace optimize`: PP-OCRv4's text recognizer, judged by lines read to the letter.

Accuracy is the share of 200 rendered chat messages that are read without any mistake, spaces and
punctuation included; calibration and speed are measured on other messages. Channels of this model
differ much in size: with INT8 weights in ranges of whole tensors it reads nothing right any more, with
ranges by channel four lines in five, and all but a point or two once its depthwise convolutions and a
few worst layers are FP32 again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from examples.ocr import data
from headrace.tensors import Signature, TensorMap, TensorSpec

INPUT, OUTPUT = "x", "softmax_11.tmp_0"
LONGEST = 1280  # pixels of width
BATCH = 8  # rows
_OPSET = 13  # the first whose DequantizeLinear takes ranges by channel


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ocr-")


def model() -> Path:
    import onnx
    from onnx import version_converter

    path = Path(_scratch().name, "model.onnx")
    onnx.save(version_converter.convert_version(onnx.load(data.graph()), _OPSET), path)
    return path


def signature() -> Signature:
    return Signature(
        inputs=(TensorSpec(INPUT, "FP32", ("batch", 3, data.HEIGHT, "width")),),
        outputs=(TensorSpec(OUTPUT, "FP32", ("batch", "steps", len(data.characters()))),),
        limits={"width": LONGEST},
    )


def example_inputs() -> list[TensorMap]:
    return [{INPUT: data.stack([image])} for _, image in data.examples()]


def calibration() -> list[TensorMap]:
    return [{INPUT: data.stack([image])} for _, image in data.calibration()]


def evaluate(predict: Callable[[TensorMap], TensorMap]) -> float:
    lines = sorted(data.test(), key=lambda line: line[1].shape[2])
    right = 0
    for start in range(0, len(lines), BATCH):
        texts, images = zip(*lines[start : start + BATCH], strict=True)
        found = data.read(predict({INPUT: data.stack(images)})[OUTPUT])
        right += sum(a == b for a, b in zip(texts, found, strict=True))
    return right / len(lines)
