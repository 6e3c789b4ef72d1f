"""What engines gain: plans without a GPU, a tuned set-up against ONNX Runtime's defaults, and OpenVINO's INT8
against ONNX Runtime's. Real chat messages, on two cores.

    python -m benchmarks.engines --only plans | tune | int8
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batching.learn import Seen, learn_buckets
from batching.shapes import elements
from benchmarks import minilm, rtx
from benchmarks.figures import Figure, arguments, finish, middle
from deployments.terminal import bars
from engines.artifact import Artifact, Repository
from engines.cpu import cpu_cores, cpu_model
from engines.manifest import Machine, Tuned
from examples.minilm import data
from optimize.demand import draw
from optimize.goals import Goals
from optimize.instance import Instance, Order
from optimize.pipeline import optimize
from optimize.progress import Progress
from optimize.recipe import load_recipe
from optimize.steps import parse_chain
from optimize.tune import tune

PARTS = ("plans", "tune", "int8")
CLIENTS = 32
THREADS = 2
_EVERY = 40  # of 20,000 chat messages
_DRAWN = 256
_TURN_S = 3.0
_TURNS = 12


def main() -> int:
    options = arguments(__doc__, PARTS)
    only = options.only or PARTS
    figures: list[Figure] = []
    with ExitStack() as stack:
        folder = Path(options.work or stack.enter_context(tempfile.TemporaryDirectory()))
        progress = stack.enter_context(bars())
        if "plans" in only:
            figures += plans(folder)
        if "tune" in only:
            figures += tuned(
                folder / "tune", 20.0 if options.quick else 180.0, 2 if options.quick else _TURNS, progress
            )
        if "int8" in only:
            figures += int8(folder / "int8", 2 if options.quick else _TURNS, progress)
    return finish(figures, options.json)


def plans(folder: Path) -> Iterator[Figure]:
    for example in ("resnet", "minilm"):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            found = rtx.plan(example, Path(work))
        fewest = min(len(each.profiles) for each in found.built)
        yield Figure(
            f"{example} in INT8, {found.layers} of {found.of} layers: architectures",
            len(found.built),
            "plans",
            ">= 3",
        )
        yield Figure(f"{example}: profiles of each", fewest, "profiles", ">= 2")
        yield Figure(f"{example}: a plan is built in", found.seconds / len(found.built), "s")
        yield Figure(f"{example}: size of a plan", found.built[0].size_bytes / 2**20, "MiB")


def seen() -> list[Seen]:
    """The lengths of real chat messages, each as often as it comes."""
    lengths = Counter(data.tokenize(text)["input_ids"].shape[1] for text in data.chat(500 * _EVERY)[::_EVERY])
    return [({"length": length}, count) for length, count in sorted(lengths.items())]


def tuned(folder: Path, seconds: float, turns: int, progress: Progress) -> Iterator[Figure]:
    """The set-up that `headrace tune` chooses, in turns with a plain session of ONNX Runtime."""
    folder.mkdir(parents=True, exist_ok=True)
    repository = Repository(folder)
    if minilm.MODEL not in repository.names():
        minilm.publish(folder)
    artifact = repository.open(minilm.MODEL, "1")
    lengths = seen()
    buckets = learn_buckets(lengths, 4, partial(elements, artifact.manifest.signature.inputs))
    machine = Machine(cpu=cpu_model(), cores=cpu_cores())
    outcome = tune(
        artifact, lengths, machine, seconds=seconds, clients=CLIENTS, buckets=buckets, progress=progress
    )
    chosen = outcome.tuned
    sizes = [dict(size) for size in draw(lengths, _DRAWN)]
    rates: dict[str, list[float]] = {"tuned": [], "plain": [], "plain, batches": []}
    with ExitStack() as stack:
        instances = [stack.enter_context(Instance(artifact)) for _ in range(chosen.instances)]
        plain = stack.enter_context(_Plain(artifact))
        for _ in range(turns + 1):
            rates["tuned"].append(rate(instances, chosen, sizes, _TURN_S))
            for name, batch in (("plain", 1), ("plain, batches", 8)):
                rates[name].append(plain.rate(sizes, batch, _TURN_S))
    found = {name: middle(values[1:]) for name, values in rates.items()}  # the first turn loads
    shape = f"{chosen.instances} x {chosen.permits} x {chosen.threads}"
    told = f"{shape}, {chosen.grouping}, batches of {chosen.max_batch}"
    yield Figure(f"tuned ({told})", found["tuned"], "rows/s")
    yield Figure("a session by default, one request at a time", found["plain"], "rows/s")
    yield Figure("the same, eight as they come, padded", found["plain, batches"], "rows/s")
    ratios = [tuned / plain for tuned, plain in zip(rates["tuned"][1:], rates["plain"][1:], strict=True)]
    yield Figure("tuned / by default", middle(ratios), "ratio", ">= 1.3")
    yield Figure("tuned / by default, eight padded", found["tuned"] / found["plain, batches"], "ratio")
    yield Figure("tuned / Headrace untuned", outcome.chosen.rate / outcome.default.rate, "ratio")


def rate(instances: Sequence[Instance], chosen: Tuned, sizes: list[dict[str, int]], seconds: float) -> float:
    """Rows/s of all instances together."""
    batching = {
        "grouping": chosen.grouping,
        "max_batch": chosen.max_batch,
        "max_padding": chosen.max_padding,
        "permits": chosen.permits,
        "buckets": [dict(bucket) for bucket in chosen.buckets] if chosen.grouping == "buckets" else [],
        "oversize": "exact",
    }
    waiting = CLIENTS // len(instances)
    for instance in instances:  # loads the engines
        instance.run(Order(chosen.threads, batching, sizes, waiting, 0.0), 0.0)
    until = time.monotonic() + seconds
    for instance in instances:
        instance.tell(Order(chosen.threads, batching, sizes, waiting, until))
    found = [instance.hear(until) for instance in instances]
    return sum(ran.rows / ran.seconds for ran in found)


class _Plain:
    """A process with a session of ONNX Runtime as it is by default."""

    def __init__(self, artifact: Artifact) -> None:
        self._path = artifact.graph_path

    def __enter__(self) -> _Plain:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.plain_session", str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def rate(self, sizes: list[dict[str, int]], batch: int, seconds: float) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        lengths = [size["length"] for size in sizes]
        self._process.stdin.write(json.dumps([lengths, batch, seconds]) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def int8(folder: Path, turns: int, progress: Progress) -> Iterator[Figure]:
    """Each engine's best INT8 version within the same accuracy budget, on two cores, in turns."""
    recipe = load_recipe(rtx.EXAMPLES / "minilm" / "recipe.py")
    chains = [parse_chain(text) for text in ("int8-static", "int8-dynamic")]
    artifacts = {}
    for engine in ("onnxruntime", "openvino"):
        out = folder / engine / "minilm"
        out.parent.mkdir(parents=True, exist_ok=True)
        report = optimize(recipe, out, Goals(max_drop=0.01), progress, chains=chains, targets=[engine])
        best = report.after
        assert best.measured is not None
        artifacts[engine] = Repository(out.parent).open("minilm", best.version)
        drop = report.before.measured.accuracy - best.measured.accuracy
        yield Figure(f"{engine}, {best.name}: accuracy lost", drop, "share", "<= 0.01")
    lengths = seen()
    sizes = [dict(size) for size in draw(lengths, _DRAWN)]
    signature = artifacts["openvino"].manifest.signature
    buckets = [dict(bucket) for bucket in learn_buckets(lengths, 4, partial(elements, signature.inputs))]
    set_ups = [
        _SetUp(streams, grouping, max_batch)
        for streams in (1, THREADS)
        for grouping in ("nearest", "buckets")
        for max_batch in (8, 32)
    ]
    rates: dict[tuple[str, _SetUp], list[float]] = {}
    plain: list[float] = []
    with ExitStack() as stack:
        found = {engine: stack.enter_context(Instance(each)) for engine, each in artifacts.items()}
        default = stack.enter_context(_Plain(artifacts["onnxruntime"]))
        for _ in range(turns + 1):
            for set_up in set_ups:
                for engine, instance in found.items():
                    ran = instance.run(set_up.order(sizes, buckets), _TURN_S / 2)
                    rates.setdefault((engine, set_up), []).append(ran.rows / ran.seconds)
            plain.append(default.rate(sizes, 1, _TURN_S / 2))
    for streams, bound in ((1, ">= 1.3"), (THREADS, "")):
        fastest: dict[str, list[float]] = {}
        for engine in artifacts:
            tried = {
                set_up: values[1:]
                for (name, set_up), values in rates.items()
                if (name, set_up.streams) == (engine, streams)
            }
            set_up = max(tried, key=lambda each: middle(tried[each]))
            fastest[engine] = tried[set_up]
            yield Figure(f"{engine} INT8, {set_up.in_words}", middle(fastest[engine]), "rows/s")
        ratios = [a / b for a, b in zip(fastest["openvino"], fastest["onnxruntime"], strict=True)]
        how = f"{THREADS} threads for a batch" if streams == 1 else f"{streams} batches, a thread each"
        yield Figure(f"OpenVINO / ONNX Runtime, {how}, each at its best", middle(ratios), "ratio", bound)
    yield Figure("onnxruntime INT8, a session by default, one at a time", middle(plain[1:]), "rows/s")


@dataclass(frozen=True, slots=True)
class _SetUp:
    """How an engine uses two cores."""

    streams: int
    grouping: str
    max_batch: int

    @property
    def in_words(self) -> str:
        return f"{self.streams} x {THREADS // self.streams}, {self.grouping}, batches of {self.max_batch}"

    def order(self, sizes: list[dict[str, int]], buckets: list[dict[str, int]]) -> Order:
        batching = {
            "grouping": self.grouping,
            "max_batch": self.max_batch,
            "permits": self.streams,
            "buckets": buckets if self.grouping == "buckets" else [],
            "oversize": "exact",
        }
        return Order(THREADS // self.streams, batching, sizes, 2 * CLIENTS, 0.0)


if __name__ == "__main__":
    raise SystemExit(main())
