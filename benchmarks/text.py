"""Real texts of unlike lengths (MiniLM-L6, FP32): every server on the same file and threads, at its best.

64 clients in a closed loop, then an open loop at 80% of what each server reached. The last rows are what
the engine alone does with the same texts. LitServe, BentoML and Triton get environments of their own on
first use.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.progress import Progress

from benchmarks import ceiling, compare
from benchmarks.figures import arguments, finish
from benchmarks.servers import bentoml, headrace, litserve, plain_serve, triton
from benchmarks.servers.base import Contender, Task
from deployments.terminal import bars
from engines.artifact import Artifact, Repository
from examples.demo import CHAINS, GOALS, MODEL, RECIPE
from examples.minilm.data import chat, tokenize
from optimize.pipeline import optimize
from optimize.recipe import load_recipe

PARTS = ("plain", "flags", "litserve", "bentoml", "triton", "headrace", "int8", "ceiling")
INT8_TOLERANCE = 0.1  # of elements that are 0.05 on average: dynamic INT8 depends on the batch
BOUNDS = (
    ("Headrace", "plain Ray Serve", ">= 3"),
    ("Headrace", "Ray Serve, our flags", ">= 1.7"),
    ("Headrace", "LitServe", ">= 1.5"),
    ("Headrace", "BentoML", ">= 1.8"),
    ("Headrace", "Triton, Python backend", ""),
    ("Headrace", ceiling.WINDOWS, ">= 0.7"),
    ("Headrace, INT8", "plain Ray Serve", ">= 6"),
)


def main() -> int:
    options = arguments(__doc__, parts=PARTS)
    parts = options.only or PARTS
    plan = compare.QUICK if options.quick else compare.Plan()
    with ExitStack() as stack:
        work = Path(options.work or stack.enter_context(tempfile.TemporaryDirectory()))
        progress = stack.enter_context(bars())
        original, small = versions(work, progress)
        texts = [tokenize(text) for text in chat(plan.requests)]
        task = Task(original, texts, tensor="input_ids", output="embedding", mask="attention_mask")
        found = [contender for contender in contenders(small) if contender.key in parts]
        results = compare.compare(task, found, plan, progress, with_ceiling="ceiling" in parts)
    compare.show("MiniLM-L6 in FP32, chat messages", results)
    figures = [figure for result in results for figure in result.figures()]
    details = {"servers": [{**asdict(result), "setup": str(result.setup)} for result in results]}
    return finish([*figures, *compare.ratios(results, BOUNDS)], options.json, details)


def versions(work: Path, progress: Progress) -> tuple[Artifact, Artifact]:
    """The model in FP32 and in INT8."""
    out = work / "models" / MODEL
    report = optimize(load_recipe(RECIPE), out, GOALS, progress, chains=CHAINS)
    repository = Repository(out.parent)
    return repository.open(MODEL, report.before.version), repository.open(MODEL, report.after.version)


def contenders(small: Artifact) -> list[Contender]:
    return [
        *plain_serve.contenders(),
        litserve.contender(),
        bentoml.contender(),
        triton.contender(),
        headrace.contender(headrace.TEXT),
        headrace.smaller(small, headrace.TEXT, INT8_TOLERANCE),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
