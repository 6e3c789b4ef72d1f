"""How large, how fast and how good a version is, against the original."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from batching.shapes import can_pad, split, stack
from engines.artifact import Artifact
from engines.base import Engine
from engines.manifest import SessionOptions, digest_of
from headrace.errors import ConfigRejected, HeadraceError
from headrace.tensors import Array, Signature, TensorMap
from optimize.progress import Line
from optimize.recipe import Predict

# One fusion of ONNX Runtime 1.32 makes transformers slower: 9.7 against 7.25 ms for MiniLM in INT8.
TOGGLES = (SessionOptions(), SessionOptions(disabled_optimizers=("SkipLayerNormFusion",)))
_TOGETHER = 16  # rows that are padded to one batch
_LARGEST_CHANGE = 1e-3  # of an FP32 answer by padding, relative to its largest value


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one version. Latency is that of one row on one thread: the mean over the examples
    of each example's median. Agreement is the cosine of its outputs with the original's."""

    size_bytes: int  # graph and external data
    latency_ms: float
    accuracy: float
    agreement_mean: float = 1.0
    agreement_min: float = 1.0
    padded_mean: float = 1.0  # agreement of rows that were padded together
    padded_min: float = 1.0

    @property
    def rows_per_s(self) -> float:
        return 1000 / self.latency_ms

    def figures(self) -> dict[str, float]:
        return {**asdict(self), "rows_per_s": self.rows_per_s}


def with_session(artifact: Artifact, session: SessionOptions) -> Artifact:
    """The same files, loaded with other session options."""
    manifest = artifact.manifest.model_copy(update={"session": session})
    return replace(artifact, manifest=manifest, digest=digest_of(manifest))


def latencies(
    engines: Sequence[Engine], examples: Sequence[TensorMap], repeats: int, line: Line
) -> list[float]:
    """Milliseconds of one row by engine. The engines take turns, so that drift of the machine cancels."""
    seconds = np.empty((len(engines), repeats, len(examples)))
    for engine in engines:
        for inputs in examples:
            engine.run(inputs)
    for repeat in range(repeats):
        for example, inputs in enumerate(examples):
            for number, engine in enumerate(engines):
                start = time.perf_counter()
                engine.run(inputs)
                seconds[number, repeat, example] = time.perf_counter() - start
        line.advance()
    return [float(found) * 1000 for found in np.median(seconds, axis=1).mean(axis=1)]


def accuracy(engine: Engine, evaluate: Callable[[Predict], float], line: Line) -> float:
    """What the recipe's `evaluate` says of an engine; ConfigRejected when it raises or gives no number."""

    def predict(inputs: TensorMap) -> TensorMap:
        engine.signature.check(inputs)
        outputs = engine.run(inputs)
        line.advance()
        return outputs

    try:
        found = float(evaluate(predict))
    except HeadraceError:
        raise
    except Exception as err:
        raise ConfigRejected(f"evaluate() of the recipe raised {type(err).__name__}: {err}") from err
    line.finish()
    if not math.isfinite(found):
        raise ConfigRejected(f"evaluate() of the recipe returned {found}, which is no accuracy")
    return found


def agreement(original: Engine, candidate: Engine, examples: Sequence[TensorMap]) -> tuple[float, float]:
    """Mean and least cosine between the outputs of two engines, one row at a time."""
    pairs = ((original.run(inputs), candidate.run(inputs)) for inputs in examples)
    return _summary([_cosine(_flat(first), _flat(second)) for first, second in pairs])


def padded_agreement(
    original: Engine, candidate: Engine, examples: Sequence[TensorMap]
) -> tuple[float, float]:
    """As `agreement`, with the rows of `candidate` padded together, in the order of the examples.

    Dynamic INT8 scales activations by the largest of the whole batch, so that a row's answer
    depends on the rows beside it.
    """
    cosines: list[float] = []
    for start in range(0, len(examples), _TOGETHER):
        chosen = examples[start : start + _TOGETHER]
        cosines += [
            _cosine(alone, padded) for alone, padded in _alone_and_padded(original, candidate, chosen)
        ]
    return _summary(cosines)


def check_padding(engine: Engine, examples: Sequence[TensorMap]) -> float:
    """The largest change of an FP32 engine's answer, relative to its largest value, when rows are
    padded together; ConfigRejected when that is more than rounding."""
    if not can_pad(engine.signature):
        raise ConfigRejected(
            'grouping "nearest" needs inputs and outputs whose first dimension is "batch", and no output '
            'with a variable dimension that no input has; leave it at "exact"'
        )
    found = max(
        float(np.abs(padded - alone).max(initial=0.0) / max(np.abs(alone).max(initial=0.0), 1e-12))
        for alone, padded in _alone_and_padded(engine, engine, examples[:_TOGETHER])
    )
    if not found < _LARGEST_CHANGE:
        raise ConfigRejected(
            f'grouping "nearest" is refused: answers change by {found:.2g} of their size when rows are '
            f"padded together (allowed: {_LARGEST_CHANGE:g}); the model ignores its mask, or the "
            f'signature pads with wrong values. Mend either, or leave grouping at "exact"'
        )
    return found


def warm_up_sizes(signature: Signature, examples: Sequence[TensorMap]) -> tuple[dict[str, int], ...]:
    """The shortest, the middle and the longest example, and a batch of the longest where that is possible."""
    sizes = sorted((signature.check(inputs) for inputs in examples), key=lambda found: sum(found.values()))
    chosen = [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
    if signature.is_batchable:
        chosen.append({**sizes[-1], "batch": 8})
    return tuple(found for number, found in enumerate(chosen) if found not in chosen[:number])


def _alone_and_padded(
    first: Engine, second: Engine, examples: Sequence[TensorMap]
) -> Iterator[tuple[Array, Array]]:
    """For each row: what `first` answers to it alone, and `second` to all rows padded together."""
    signature = second.signature
    batch, _ = stack(signature, examples)
    sizes = [signature.check(inputs) for inputs in examples]
    answers = split(signature, second.run(batch), [1] * len(examples), sizes)
    for inputs, padded in zip(examples, answers, strict=True):
        yield _flat(first.run(inputs)), _flat(padded)


def _flat(outputs: Mapping[str, Array]) -> Array:
    """All numbers of an answer in one row; text outputs are left out."""
    numbers = [array.ravel().astype(np.float64) for array in outputs.values() if array.dtype != object]
    return np.concatenate(numbers) if numbers else np.empty(0)


def _cosine(first: Array, second: Array) -> float:
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / scale if scale else float(np.array_equal(first, second))


def _summary(cosines: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(cosines)), float(np.min(cosines))
