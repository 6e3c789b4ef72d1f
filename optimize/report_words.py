"""Figures and findings of a report as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from optimize.goals import reached
from optimize.report import Report, Row

ENGINES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "aot": "AOTInductor",
    "aot-cuda": "AOTInductor on a GPU",
}
_UNMEASURED = ("refused", "skipped", "failed")


def engine(name: str) -> str:
    return ENGINES.get(name, name)


def name(report: Report, row: Row) -> str:
    """A version's name, with its engine where another engine has a version of that name."""
    rows = (report.original, *report.candidates)
    engines = {other.engine for other in rows if other.name == row.name}
    return row.name if len(engines) == 1 else on_engine(row)


def on_engine(row: Row) -> str:
    return f"{row.name} on {engine(row.engine)}"


def size(num_bytes: float) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= factor:
            return f"{_digits(num_bytes / factor, 1)} {unit}"
    return f"{num_bytes:.0f} bytes"


def ms(value: float) -> str:
    return f"{_digits(value, 2)} ms"


def change(drop: float) -> str:
    """Accuracy won or lost, with its sign."""
    return f"{round(-drop, 4) + 0.0:+.4f}"  # no -0.0000


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def fact(name: str, value: float) -> tuple[str, str]:
    """("compressed size", "155 kB") from ("compressed_bytes", 155234)."""
    words = name.replace("_", " ")
    if name.endswith("_bytes"):
        return f"{words.removesuffix(' bytes')} size", size(value)
    if name.endswith("_ms"):
        return words.removesuffix(" ms"), ms(value)
    return words, f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def outcome(row: Row) -> str:
    return f"{row.status}, version {row.version}" if row.version else row.status


def headline(report: Report) -> str:
    """What was chosen and what it brings, or what came nearest."""
    row = report.nearest
    if row is None:
        counts = Counter[str](row.status for row in report.candidates)
        told = ", ".join(f"{counts[status]} {status}" for status in _UNMEASURED if counts[status])
        return f"No version was chosen: none could be measured ({told or 'none was tried'})."
    if report.chosen:
        return f"{on_engine(row)} is chosen: {brings(report, row)}."
    missed = " and ".join(miss.goal for miss in report.misses_of(row))
    beside = f" but misses {missed}" if missed else ""
    return f"No version was chosen. {on_engine(row)} came nearest{beside}: {brings(report, row)}."


def brings(report: Report, row: Row) -> str:
    gains = report.gains_of(row)
    assert row.measured is not None
    return (
        f"{gains.speedup:.2f} times as fast as {on_engine(report.original)}, "
        f"{gains.size_ratio:.2f} of its size, accuracy {row.measured.accuracy:.4f} ({change(gains.drop)})"
    )


def baseline(report: Report) -> str:
    """What every ratio compares with."""
    original = report.before
    measured = original.measured
    return (
        f"The original is {on_engine(original)}: {size(measured.size_bytes)}, "
        f"{ms(measured.latency_ms)}, accuracy {measured.accuracy:.4f}. Latency is that of one row at a time "
        f"on one thread. Each version was measured in turns with the original in one run, and its speed is "
        f"compared with the original's in that run."
    )


@dataclass(frozen=True, slots=True)
class GoalLine:
    """One goal and what became of it; `reached` is empty when nothing could be measured."""

    name: str
    meaning: str
    wanted: str
    reached: str
    is_missed: bool


_MEANINGS = {
    "max_drop": "accuracy lost, at most",
    "min_speedup": "times as fast as the original, at least",
    "max_size": "fraction of the original's size, at most",
    "min_accuracy": "accuracy, at least",
    "max_latency_ms": "milliseconds for one row on one thread, at most",
}


def goals(report: Report) -> Iterator[GoalLine]:
    """The goals asked for, against the chosen version or the nearest one."""
    row = report.nearest
    figures = reached(report.before.measured, row.measured) if row and row.measured else {}
    missed = {miss.goal for miss in report.misses}
    for name, wanted in report.goals.asked().items():
        found = figures.get(name)
        yield GoalLine(
            name=name,
            meaning=_MEANINGS.get(name, name.replace("_", " ")),
            wanted=f"{wanted:g}",
            reached="" if found is None else f"{found:.4g}",
            is_missed=row is None or name in missed,
        )


def _digits(value: float, most: int) -> str:
    """Fewer decimals for larger numbers: 0.123, 1.60, 12.3, 123."""
    decimals = most + 1 if value < 0.1 else most if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"
