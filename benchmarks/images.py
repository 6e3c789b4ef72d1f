"""Images of one shape, a convnet of ResNet18's size: every server on the same file and threads, at its best.

Here nothing needs padding: what is compared is the way of a body of 600 kB to the engine and back.
"""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from benchmarks import contest
from benchmarks.compare import Plan
from benchmarks.servers import headrace
from benchmarks.servers.base import Contender, Task
from engines.artifact import Repository
from examples.resnet.recipe import image
from optimize.prepare import export_module, read_signature
from optimize.recipe import load_recipe

RECIPE = Path(__file__).resolve().parent.parent / "examples" / "resnet" / "recipe.py"
MODEL = "resnet"
DIFFERENT = 32  # images, asked for again and again


def prepare(work: Path, progress: Progress, count: int) -> tuple[Task, list[Contender]]:
    repository = Repository(work / "models")
    if MODEL not in repository.names():
        export = work / "export"
        export.mkdir(parents=True, exist_ok=True)
        recipe = load_recipe(RECIPE)
        path = export_module(recipe, recipe.call("model"), export)
        repository.publish(
            MODEL, "1", {path.name: path}, graph=path.name, signature=read_signature(recipe, path)
        )
    images = [{"image": image(number)} for number in range(min(DIFFERENT, count))]
    task = Task(
        repository.open(MODEL, "1"),
        [images[number % len(images)] for number in range(count)],
        tensor="image",
        output="logits",
    )
    return task, [headrace.contender(headrace.IMAGES)]


CONTEST = contest.Contest(
    title="a convnet of ResNet18's size in FP32, images of 224 x 224",
    ours=("headrace",),
    prepare=prepare,
    plan=Plan(requests=240, tuning=120, warm=48),
    quick=Plan(repeats=1, requests=64, tuning=64, warm=32, is_quick=True),
    bounds=contest.COMPARED,
)

if __name__ == "__main__":
    raise SystemExit(contest.run(CONTEST, __doc__))
