"""How large, how fast and how good a version is, against the original."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from batching.shapes import can_pad, largest, split, stack
from engines.artifact import Artifact
from engines.base import Engine
from engines.manifest import SessionOptions, digest_of
from headrace.errors import ConfigRejected
from headrace.likeness import cosine
from headrace.tensors import Array, Signature, TensorMap
from optimize.progress import Line
from optimize.recipe import Recipe

# Ways to load a graph in ONNX Runtime that are worth trying, what they are called in the report, and the
# operators that they make a difference to. One fusion of 1.32 makes transformers slower: 9.7 against 7.25 ms
# for MiniLM in INT8.
TOGGLES: Mapping[str, SessionOptions] = {
    "all fusions": SessionOptions(),
    "without SkipLayerNormFusion": SessionOptions(disabled_optimizers=("SkipLayerNormFusion",)),
}
_TOUCHED = {"without SkipLayerNormFusion": frozenset({"LayerNormalization", "SkipLayerNormalization"})}
_CLEAR = 0.97  # of the usual way's time
_OFTEN = 0.8  # of the turns
BATCHES = (1, 2, 4, 8)
_TOGETHER = 16  # rows that are padded to one batch
_LARGEST_CHANGE = 1e-3  # of an FP32 answer by padding, relative to its largest value


@dataclass(frozen=True, slots=True)
class BatchLatency:
    """Milliseconds of one call with a whole batch of one shape."""

    batch: int
    sizes: Mapping[str, int]  # of the variable dimensions other than "batch"
    threads: int
    median_ms: float
    low_ms: float  # 10th percentile
    high_ms: float  # 90th percentile
    original_ms: float  # median of the original, measured in turns with it


@dataclass(frozen=True, slots=True)
class Toggle:
    """A way to load one graph that was tried, such as without one of the engine's fusions."""

    name: str
    latency_ms: float
    is_used: bool


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
    original_ms: float = 0.0  # latency of the original, measured in turns with this one; 0: not compared
    latencies: tuple[BatchLatency, ...] = ()

    @property
    def rows_per_s(self) -> float:
        return 1000 / self.latency_ms

    @property
    def speedup(self) -> float:
        return (self.original_ms or self.latency_ms) / self.latency_ms

    def figures(self) -> dict[str, float]:
        told = asdict(self)
        del told["latencies"]
        return {**told, "rows_per_s": self.rows_per_s, "speedup": self.speedup}


def toggles_for(kinds: Iterable[str]) -> dict[str, SessionOptions]:
    """The ways worth trying for a graph with these operators, the usual one first."""
    found = set(kinds)
    return {
        name: session
        for name, session in TOGGLES.items()
        if not (needed := _TOUCHED.get(name)) or needed & found
    }


def with_session(artifact: Artifact, session: SessionOptions) -> Artifact:
    """The same files, loaded with other session options."""
    manifest = artifact.manifest.model_copy(update={"session": session})
    return replace(artifact, manifest=manifest, digest=digest_of(manifest))


def latencies(engines: Sequence[Engine], examples: Sequence[TensorMap], repeats: int, line: Line) -> Turns:
    """Times of one row by engine. The engines take turns, so that drift of the machine cancels."""
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
    return Turns(seconds)


@dataclass(frozen=True, slots=True)
class Turns:
    """Seconds of engines that took turns: (engines, repeats, examples)."""

    seconds: Array

    def milliseconds(self) -> list[float]:
        """By engine: the mean over the examples of each example's median."""
        return [float(found) * 1000 for found in np.median(self.seconds, axis=1).mean(axis=1)]

    def without(self, first: int) -> Turns:
        """The engines after the first ones."""
        return Turns(self.seconds[first:])

    def fastest(self) -> int:
        """The index of the fastest engine, or 0 when none is clearly faster than the first.

        Clearly: by 3%, and in four of five turns. Less is noise, which would change the digest from
        one run to the next.
        """
        rounds = self.seconds.mean(axis=2)
        times = self.milliseconds()
        best = int(np.argmin(times))
        is_clear = times[best] < times[0] * _CLEAR and np.mean(rounds[best] < rounds[0]) >= _OFTEN
        return best if is_clear else 0


def batch_latencies(
    engines: Sequence[Engine], examples: Sequence[TensorMap], threads: int, repeats: int, line: Line
) -> tuple[BatchLatency, ...]:
    """The last engine by batch size and shape, with the first, the original, in turns.

    Shapes are those of the shortest, the middle and the longest example, batches 1 to 8; a model
    whose requests cannot be stacked is measured with one alone.
    """
    signature = engines[-1].signature
    sizes_of = signature.check
    by_size = sorted(examples, key=lambda inputs: sum(sizes_of(inputs).values()))
    chosen = {
        tuple(sorted(sizes_of(e).items())): e for e in (by_size[0], by_size[len(by_size) // 2], by_size[-1])
    }
    found = []
    for example in chosen.values():
        for batch in BATCHES if signature.is_batchable else (1,):
            inputs = {name: np.repeat(array, batch, axis=0) for name, array in example.items()}
            inputs = dict(example) if batch == 1 else inputs
            seconds = np.empty((len(engines), repeats))
            for repeat in range(-1, repeats):  # the first is for warming up
                for number, each in enumerate(engines):
                    start = time.perf_counter()
                    each.run(inputs)
                    if repeat >= 0:
                        seconds[number, repeat] = time.perf_counter() - start
            low, middle, high = np.percentile(seconds[-1] * 1000, (10, 50, 90))
            original_ms = float(np.median(seconds[0])) * 1000
            sizes = {dim: size for dim, size in sizes_of(inputs).items() if dim != "batch"}
            found.append(
                BatchLatency(batch, sizes, threads, float(middle), float(low), float(high), original_ms)
            )
            line.advance()
    line.finish()
    return tuple(found)


def accuracy(engine: Engine, recipe: Recipe, line: Line) -> float:
    """What the recipe's `evaluate` says of an engine; ConfigRejected when it raises or gives no number."""

    def predict(inputs: TensorMap) -> TensorMap:
        engine.signature.check(inputs)
        outputs = engine.run(inputs)
        line.advance()
        return outputs

    told = recipe.call("evaluate", predict)
    try:
        found = float(told)
    except (TypeError, ValueError) as err:
        raise recipe.reject(
            "evaluate",
            f"evaluate() returned {type(told).__name__}; it must return a number, higher is better",
        ) from err
    line.finish()
    if not math.isfinite(found):
        raise recipe.reject(
            "evaluate", f"evaluate() returned {found}, which is no accuracy; return a finite number"
        )
    return found


def agreement(original: Engine, candidate: Engine, examples: Sequence[TensorMap]) -> tuple[float, float]:
    """Mean and least cosine between the outputs of two engines, one row at a time."""
    pairs = ((original.run(inputs), candidate.run(inputs)) for inputs in examples)
    return _summary([cosine(_flat(first), _flat(second)) for first, second in pairs])


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
        cosines += [cosine(alone, padded) for alone, padded in _alone_and_padded(original, candidate, chosen)]
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
    sizes = [signature.check(inputs) for inputs in examples]
    padded_to = largest(sizes)
    batch = stack(signature, examples, padded_to)
    answers = split(signature, second.run(batch), [1] * len(examples), sizes, padded_to)
    for inputs, padded in zip(examples, answers, strict=True):
        yield _flat(first.run(inputs)), _flat(padded)


def _flat(outputs: Mapping[str, Array]) -> Array:
    """All numbers of an answer in one row; text outputs are left out."""
    numbers = [array.ravel().astype(np.float64) for array in outputs.values() if array.dtype != object]
    return np.concatenate(numbers) if numbers else np.empty(0)


def _summary(cosines: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(cosines)), float(np.min(cosines))
