"""Reports for the tests of table, plot and page: small, large, and those in which little went well."""

from __future__ import annotations

from dataclasses import replace

from engines.manifest import SessionOptions
from optimize.goals import Goals
from optimize.machine import Machine
from optimize.measure import BatchLatency, Measured, Toggle
from optimize.report import Layer, Report, Row, Status

TUNED = SessionOptions(disabled_optimizers=("SkipLayerNormFusion",))
MACHINE = Machine("Some CPU", 2, ("avx2", "avx512_vnni"), "Linux x86_64", {"onnxruntime": "1.32.0"})


def latencies(median_ms: float, original_ms: float, dimension: str = "length") -> tuple[BatchLatency, ...]:
    return tuple(
        BatchLatency(
            batch=batch,
            sizes={dimension: length},
            threads=1,
            median_ms=median_ms * batch * length / 20,
            low_ms=median_ms * batch * length / 21,
            high_ms=median_ms * batch * length / 18,
            original_ms=original_ms * batch * length / 20,
        )
        for batch in (1, 8)
        for length in (9, 17, 39)
    )


def row(
    name: str,
    status: Status,
    figures: tuple[int, float, float] | None = None,
    engine: str = "onnxruntime",
    reason: str = "",
    version: str = "",
) -> Row:
    """`figures`: bytes, milliseconds, accuracy; None: not measured."""
    steps: tuple[str, ...] = () if status == "original" else tuple(name.split(" > "))
    measured = figures and Measured(
        *figures, original_ms=0 if status == "original" else 4.0, latencies=latencies(figures[1], 4.0)
    )
    precision = next(known for known in ("int8-dynamic", "int8-static", "fp16", "fp32", "") if known in name)
    return Row(name, steps, engine, precision or "fp32", status, reason, version, measured=measured or None)


ORIGINAL = row("fp32", "original", (90_000_000, 4.0, 0.861), version="1")
CHOSEN = replace(
    row("int8-static", "chosen", (23_000_000, 1.6, 0.8605), version="2"),
    session=TUNED,
    stages={
        "calibration": "128 rows, entropy",
        "range determination": "per tensor; weights per channel",
        "conversion": "Q/DQ, U8S8, 42 of 42 layers",
        "validation": "0.8605",
    },
    toggles=(Toggle("every fusion", 2.1, False), Toggle("without SkipLayerNormFusion", 1.6, True)),
    facts={"compressed_bytes": 17_300_000.0, "layers": 42.0, "alpha": 0.95},
)
REFUSED = row("int8-dynamic", "refused", reason="convolutions run slower with dynamic INT8")


def small() -> Report:
    """One chosen, one refused."""
    return Report(
        model="minilm",
        original=ORIGINAL,
        candidates=(CHOSEN, REFUSED),
        goals=Goals(max_drop=0.01),
        sensitivity=(Layer("/encoder/layer.5/MatMul", "MatMul", 0.012), Layer("/head/Gemm", "Gemm", 0.0004)),
        machine=MACHINE,
        command="headrace optimize recipe.py --out models/minilm --goal max_drop=0.01",
        created="2026-01-01T00:00:00+00:00",
        seconds=125.4,
    )


def large() -> Report:
    """Twelve candidates of every status, chains of steps, two engines, names of any length."""
    long = "distill > prune-channels-0.5-with-fine-tuning > int8-static-smoothquant"
    candidates = (
        replace(
            CHOSEN, name="int8-static smoothquant", steps=("int8-static smoothquant",), engine="openvino"
        ),
        row("int8-static per-tensor", "missed", (22_900_000, 1.7, 0.31), reason="max_drop: wanted 0.01"),
        row("int8-static", "good", (23_000_000, 1.75, 0.8588)),
        row("int8-dynamic", "good", (23_200_000, 1.95, 0.8591)),
        row("fp16", "good", (45_100_000, 2.4, 0.861), "openvino"),
        row("fp32", "missed", (90_000_000, 3.7, 0.861), "openvino", "max_size: wanted 0.3, reached 1"),
        row("distill", "missed", (30_000_000, 1.5, 0.848), reason="max_drop: wanted 0.01, reached 0.013"),
        row(
            "distill > prune-channels-0.5-with-fine-tuning",
            "missed",
            (16_000_000, 0.9, 0.8412),
            reason="max_drop",
        ),
        row(long, "missed", (4_100_000, 0.62, 0.8391), reason="max_drop: wanted 0.01, reached 0.0219"),
        REFUSED,
        row("fp32", "skipped", engine="tensorrt", reason="tensorrt is not installed"),
        row("prune-heads", "failed", reason="the process ended by SIGFPE after distill had run"),
    )
    layers = tuple(
        Layer(f"/bert/encoder/layer.{n}/attention/self/query/MatMul", "MatMul", 0.1 / n**2)
        for n in range(1, 43)
    )
    goals = Goals(max_drop=0.01, min_speedup=1.5, max_size=0.3)
    return replace(small(), candidates=candidates, sensitivity=layers, goals=goals)


def missed() -> Report:
    """Measured, but outside the goals."""
    far = row("int8-static per-tensor", "missed", (23_000_000, 1.5, 0.31), reason="max_drop")
    near = row(
        "int8-dynamic", "missed", (23_000_000, 1.6, 0.84), reason="max_drop: wanted 0.01, reached 0.021"
    )
    return replace(small(), candidates=(far, near))


def hopeless() -> Report:
    """Nothing but the original could be measured."""
    failed = row("int8-static", "failed", reason="the process was ended by the kernel: out of memory")
    return replace(small(), candidates=(REFUSED, failed), sensitivity=())


def unwieldy() -> Report:
    """Names, commands and reasons that are long and have no space to break at."""
    long = "x" * 90
    chosen = replace(
        CHOSEN, name=long, stages={long: long}, toggles=(Toggle(long, 1.6, True),), facts={long: 1.5}
    )
    refused = replace(REFUSED, name=f"{long} > {long}", reason=long)
    layers = (Layer(f"/{long}/{long}", long, 0.1), Layer("/head", "Gemm", 0.0))
    machine = replace(MACHINE, cpu=long, flags=(long,), versions={long: long})
    return replace(
        small(), model=long, candidates=(chosen, refused), sensitivity=layers, machine=machine, command=long
    )
