"""Lines of text as images of mixed widths, PP-OCRv4: every server on the same file and threads, at its best.

Lines of unlike widths may not be padded to each other, which would change what is read: every server makes
batches of equal widths only, those that cannot group requests within the batches that they get. The graph
ends with the best class of each step, since 6,625 probabilities for each are nothing to send.
"""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from benchmarks import contest
from benchmarks.compare import Plan
from benchmarks.servers import headrace
from benchmarks.servers.base import Contender, Task
from engines.artifact import Repository
from examples.ocr import data, recipe
from headrace.tensors import Signature, TensorSpec

MODEL, CLASSES = "ocr", "classes"


def prepare(work: Path, progress: Progress, count: int) -> tuple[Task, list[Contender]]:
    repository = Repository(work / "models")
    if MODEL not in repository.names():
        signature = Signature(
            inputs=recipe.signature().inputs,
            outputs=(TensorSpec(CLASSES, "INT64", ("batch", "steps")),),
            limits=recipe.signature().limits,
        )
        repository.publish(MODEL, "1", {"model.onnx": graph()}, graph="model.onnx", signature=signature)
    sentences = data.sentences()[:count]
    row = progress.add_task("drawing lines", total=len(sentences))
    lines = []
    for number, text in enumerate(sentences):
        lines.append({recipe.INPUT: data.stack([data.normalized(data.draw(text, number))])})
        progress.update(row, advance=1)
    task = Task(repository.open(MODEL, "1"), lines, tensor=recipe.INPUT, output=CLASSES)
    return task, [headrace.contender(headrace.OCR)]


def graph() -> bytes:
    """The recognizer with its best classes instead of all probabilities."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(recipe.model())
    model.graph.node.append(helper.make_node("ArgMax", [recipe.OUTPUT], [CLASSES], axis=2, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(CLASSES, TensorProto.INT64, ["batch", "steps"]))
    written: bytes = model.SerializeToString()
    return written


CONTEST = contest.Contest(
    title="PP-OCRv4's recognizer in FP32, lines of mixed widths",
    ours=("headrace",),
    prepare=prepare,
    plan=Plan(requests=600, tuning=300, warm=64),
    quick=Plan(repeats=1, requests=64, tuning=64, warm=32, is_quick=True),
    bounds=contest.COMPARED,
)

if __name__ == "__main__":
    raise SystemExit(contest.run(CONTEST, __doc__))
