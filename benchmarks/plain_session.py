"""ONNX Runtime as it is by default, on texts of given lengths: for `benchmarks.engines`.

    python -m benchmarks.plain_session GRAPH

Each line in is [lengths, rows of a batch, seconds] as JSON, each line out rows/s.
"""

from __future__ import annotations

import itertools
import json
import sys
import time

import numpy as np
import onnxruntime


def main(path: str) -> None:
    session = onnxruntime.InferenceSession(path)
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        lengths, batch, seconds = json.loads(line)
        texts = [rng.integers(1000, 30000, length) for length in lengths]
        groups = [texts[at : at + batch] for at in range(0, len(texts), batch)]
        feeds = [_padded(group) for group in groups]
        rows = 0
        began = now = time.monotonic()
        for group, feed in itertools.cycle(zip(groups, feeds, strict=True)):
            session.run(None, feed)
            rows += len(group)
            now = time.monotonic()
            if now - began >= seconds:
                break
        print(rows / (now - began), flush=True)


def _padded(texts: list[np.ndarray]) -> dict[str, np.ndarray]:
    longest = max(map(len, texts))
    ids, mask = np.zeros((2, len(texts), longest), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask}


if __name__ == "__main__":
    main(sys.argv[1])
