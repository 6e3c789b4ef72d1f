"""What TensorRT made of a graph, from its engine inspector: kernels, and the types that they compute in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# TensorRT's words for types, in the order in which one is found in a format's description.
_TYPES = (
    ("BFLOAT16", "BF16"),
    ("BF16", "BF16"),
    ("FP8", "FP8"),
    ("INT8", "INT8"),
    ("INT64", "INT64"),
    ("INT32", "INT32"),
    ("BOOL", "BOOL"),
    ("HALF", "FP16"),
    ("FP16", "FP16"),
    ("FLOAT", "FP32"),
    ("FP32", "FP32"),
)
_COPIES = frozenset({"reformat", "noop", "nocopy", "shape"})
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Inspection:
    """The layers of a plan; each counts once for each profile that has its own."""

    layers: int
    copies: int  # of them, such as change a tensor's format alone
    by_type: Mapping[str, int]  # the others, by what their first input is in

    @property
    def in_words(self) -> str:
        types = ", ".join(f"{count} in {name}" for name, count in self.by_type.items())
        copies = f"; {self.copies} change{'s' * (self.copies == 1)} formats alone" if self.copies else ""
        return f"{self.layers} layers after fusion: {types}{copies}"


def inspected(information: str) -> Inspection | None:
    """Of the inspector's JSON, in the words of any release; None when it tells no more than names."""
    try:
        document = json.loads(information)
    except ValueError:
        return None
    layers = document.get("Layers") if isinstance(document, dict) else None
    told = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    if not told:
        return None
    is_copy = [str(layer.get("LayerType", "")).lower() in _COPIES for layer in told]
    types = Counter(_type_of(layer) for layer, copies in zip(told, is_copy, strict=True) if not copies)
    return Inspection(len(told), sum(is_copy), dict(types.most_common()))


def _type_of(layer: Mapping[str, Any]) -> str:
    """What its first input is in; where it has none, its first output."""
    for tensors in (layer.get("Inputs"), layer.get("Outputs")):
        for tensor in tensors if isinstance(tensors, list) else ():
            if isinstance(tensor, dict):
                words = tensor.get("DataType") or tensor.get("Format/Datatype") or tensor.get("Format") or ""
                return _type_in(str(words))
    return _UNKNOWN


def _type_in(words: str) -> str:
    upper = words.upper()
    return next((name for word, name in _TYPES if word in upper), _UNKNOWN)
