"""Real texts of unlike lengths (MiniLM-L6, FP32): every server on the same file and threads, at its best.

64 clients in a closed loop, then an open loop at 80% of what each server reached. The last rows are what
the engine alone does with the same texts. LitServe, BentoML and Triton get environments of their own on
first use.
"""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from benchmarks import ceiling, compare, contest
from benchmarks.servers import headrace
from benchmarks.servers.base import Contender, Task
from engines.artifact import Artifact, Repository
from examples.demo import CHAINS, GOALS, MODEL, RECIPE
from examples.minilm.data import chat, tokenize
from optimize.pipeline import optimize
from optimize.recipe import load_recipe

INT8_TOLERANCE = 0.1  # of elements that are 0.05 on average: dynamic INT8 depends on the batch


def prepare(work: Path, progress: Progress, count: int) -> tuple[Task, list[Contender]]:
    original, small = versions(work, progress)
    texts = [tokenize(text) for text in chat(count)]
    task = Task(original, texts, tensor="input_ids", output="embedding", mask="attention_mask")
    return task, [
        headrace.contender(headrace.TEXT),
        headrace.smaller(small, headrace.TEXT, INT8_TOLERANCE),
    ]


def versions(work: Path, progress: Progress) -> tuple[Artifact, Artifact]:
    """The model in FP32 and in INT8."""
    out = work / "models" / MODEL
    report = optimize(load_recipe(RECIPE), out, GOALS, progress, chains=CHAINS)
    repository = Repository(out.parent)
    return repository.open(MODEL, report.before.version), repository.open(MODEL, report.after.version)


CONTEST = contest.Contest(
    title="MiniLM-L6 in FP32, chat messages",
    ours=("headrace", "int8"),
    prepare=prepare,
    plan=compare.Plan(),
    quick=compare.QUICK,
    bounds=(
        ("Headrace", "plain Ray Serve", ">= 3"),
        ("Headrace", "Ray Serve, our flags", ">= 1.7"),
        ("Headrace", "LitServe", ">= 1.5"),
        ("Headrace", "BentoML", ">= 1.8"),
        ("Headrace", "Triton, Python backend", ""),
        ("Headrace", ceiling.WINDOWS, ">= 0.7"),
        ("Headrace, INT8", "plain Ray Serve", ">= 6"),
    ),
)

if __name__ == "__main__":
    raise SystemExit(contest.run(CONTEST, __doc__))
