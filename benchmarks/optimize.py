"""What optimization reaches on real models and data: size, speed and accuracy against the FP32 original.

Every ratio is to the original of the same recipe on ONNX Runtime, loaded in its faster way, one row at a
time on one thread, measured in turns in one process. Needs the development packages and `make data`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.progress import Progress

from benchmarks import kills
from benchmarks.figures import Figure, arguments, finish
from deployments.terminal import bars
from engines.probe import probe
from optimize.goals import Goals
from optimize.pipeline import optimize
from optimize.recipe import load_recipe
from optimize.report import Report, Row
from optimize.steps import parse_chain

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SPARSE = "prune-weights(sparsity={})"
STRUCTURED = "prune-channels(ratio=0.75)"
PARTS = ("fashion", "minilm", "resnet", "ocr", "kills")


def main() -> int:
    options = arguments(__doc__, parts=PARTS)
    parts = options.only or (("kills",) if options.quick else PARTS)
    figures: list[Figure] = []
    with ExitStack() as stack:
        folder = Path(options.work or stack.enter_context(tempfile.TemporaryDirectory()))
        progress = stack.enter_context(bars())
        if "kills" in parts:  # first, as its own timing is not to be disturbed by a warm machine
            figures += killed(folder / "kills", 3 if options.quick else 50, progress)
        if "fashion" in parts:
            figures += fashion(folder, progress)
        if "minilm" in parts:
            figures += minilm(folder, progress)
        if "resnet" in parts:
            figures += resnet(folder, progress)
        if "ocr" in parts:
            figures += ocr(folder, progress)
    return finish(figures, options.json)


def fashion(folder: Path, progress: Progress) -> Iterator[Figure]:
    chains = ["int8-static", SPARSE.format(0.8), SPARSE.format(0.9), STRUCTURED, "distill"]
    chains += ["distill > int8-static"]
    report = run("fashion", folder, chains, progress)
    before = report.before.measured
    yield Figure("Fashion-MNIST CNN, FP32 accuracy on the test set", before.accuracy, "share")
    int8 = row(report, "int8-static")
    yield from against(report, int8, "Fashion-MNIST CNN, INT8", size="<= 0.28", drop="<= 0.01")
    at_eight = max(int8.measured.latencies, key=lambda entry: entry.batch) if int8.measured else None
    if at_eight:
        yield Figure(
            "Fashion-MNIST CNN, INT8 / FP32 speed, batch 8",
            at_eight.original_ms / at_eight.median_ms,
            "ratio",
        )
    sparse = [found for found in report.candidates if found.name.startswith("prune-weights")]
    for found, sparsity, bound in zip(sparse, (0.8, 0.9), ("<= 0.01", "<= 0.02"), strict=True):
        name = f"{sparsity:.0%} sparse CNN"
        yield Figure(
            f"{name}, sparsity reached", found.facts["sparsity"], "share", f">= {sparsity - 0.001:g}"
        )
        yield from against(report, found, name, drop=bound)
        share = found.facts["compressed_bytes"] / before.size_bytes
        yield Figure(f"{name}, gzip / FP32 size", share, "ratio")
    small = row(report, STRUCTURED)
    yield from against(report, small, "CNN with channels removed", speed=">= 3", drop="")
    student = row(report, "distill")
    assert student.measured is not None
    ratio = student.facts["teacher_parameters"] / student.facts["parameters"]
    yield Figure("teacher / student parameters", ratio, "ratio", ">= 5")
    share = student.measured.accuracy / before.accuracy
    yield Figure("student / teacher accuracy, 2,000 labels", share, "ratio", ">= 0.95")
    yield Figure("student, the same top class as its teacher", student.facts["agreement"], "share")
    yield from against(report, row(report, "distill > int8-static"), "student in INT8", size="", drop="")


def minilm(folder: Path, progress: Progress) -> Iterator[Figure]:
    targets = ["onnxruntime", *([] if probe("openvino") else ["openvino"])]
    report = run(
        "minilm", folder, ["int8-static(smooth=0.8)", "int8-static", "int8-dynamic"], progress, targets
    )
    good = [found for found in report.candidates if found.measured and found.precision.startswith("int8")]
    best = max(good, key=lambda found: report.gains_of(found).speedup)
    yield from against(report, best, f"MiniLM, {best.name}", size="<= 0.28", drop="<= 0.01", speed=">= 2.2")
    dynamic = row(report, "int8-dynamic")
    yield from against(report, dynamic, "MiniLM, INT8 dynamic", speed=">= 1.5", drop="")
    for found in good:
        assert found.measured is not None
        yield Figure(f"MiniLM, {found.name}, cosine to FP32", found.measured.agreement_mean, "cosine")
        yield Figure(f"MiniLM, {found.name} / FP32 speed", report.gains_of(found).speedup, "ratio")


def resnet(folder: Path, progress: Progress) -> Iterator[Figure]:
    targets = ["onnxruntime", *([] if probe("openvino") else ["openvino"])]
    report = run("resnet", folder, ["int8-static"], progress, targets)
    found = [candidate for candidate in report.candidates if candidate.measured]
    best = max(found, key=lambda candidate: report.gains_of(candidate).speedup)
    yield from against(report, best, f"ResNet18-size convnet, {best.name}", speed=">= 2.5", size="")


def ocr(folder: Path, progress: Progress) -> Iterator[Figure]:
    by_tensor = "int8-static(per_channel=False, fallback=False)"
    goals = Goals(max_drop=0.02)
    report = run("ocr", folder, [by_tensor, "int8-static"], progress, goals=goals)
    rejected, *others = [found for found in report.candidates if found.measured]
    yield Figure("PP-OCRv4, FP32 exact match", report.before.measured.accuracy, "share")
    yield Figure("PP-OCRv4, INT8 per tensor, exact match", measured_accuracy(rejected), "share")
    yield Figure("PP-OCRv4, INT8 per tensor is rejected", float(rejected.status == "missed"), "yes", "== 1")
    accepted = report.chosen
    drop = report.gains_of(accepted).drop if accepted else 1.0
    name = accepted.name if accepted else "nothing"
    yield Figure(f"PP-OCRv4, {name} is accepted, points lost", drop, "share", "<= 0.02")
    for found in others:
        yield from against(report, found, f"PP-OCRv4, {found.name}", size="", speed="", drop="")


def killed(folder: Path, times: int, progress: Progress) -> Iterator[Figure]:
    found = kills.measure(folder, times, progress)
    yield Figure("kills of an optimize run", found.kills, "kills", f">= {times}")
    yield Figure("runs started again after them", found.runs, "runs")
    yield Figure("of these, ended at another digest", found.other_digests, "runs", "== 0")
    yield Figure("half versions left behind", found.left_over, "folders", "== 0")


def run(
    name: str,
    folder: Path,
    chains: Sequence[str],
    progress: Progress,
    targets: Sequence[str] = ("onnxruntime",),
    goals: Goals | None = None,
) -> Report:
    """The report of an example's recipe, published or not."""
    recipe = load_recipe(EXAMPLES / name / "recipe.py")
    out = folder / "models" / name
    parsed = [parse_chain(chain) for chain in chains]
    report = optimize(recipe, out, goals, progress, chains=parsed, targets=targets)
    progress.console.print(f"{name}: {report.seconds:.0f} s")
    return report


def row(report: Report, name: str) -> Row:
    """The measured row of a name."""
    found = next((found for found in report.candidates if found.name == name), None)
    if found is None or found.measured is None:
        raise SystemExit(
            f"{report.model}: {name} was not measured: {found.reason if found else 'no such row'}"
        )
    return found


def measured_accuracy(found: Row) -> float:
    return found.measured.accuracy if found.measured else 0.0


def against(
    report: Report,
    found: Row,
    name: str,
    size: str | None = None,
    speed: str | None = None,
    drop: str | None = None,
) -> Iterator[Figure]:
    """A row's ratios to the original: those that a bound is given for, even an empty one."""
    gains = report.gains_of(found)
    if size is not None:
        yield Figure(f"{name} / FP32 size", gains.size_ratio, "ratio", size)
    if speed is not None:
        yield Figure(f"{name} / FP32 speed", gains.speedup, "ratio", speed)
    if drop is not None:
        yield Figure(f"{name}, accuracy lost", gains.drop, "share", drop)


if __name__ == "__main__":
    raise SystemExit(main())
