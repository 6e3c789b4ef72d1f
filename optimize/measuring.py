"""Jobs that measure: the original alone, and a candidate in turns with the original."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import Any

import onnx

from engines.artifact import Artifact, unpublished
from engines.base import Engine
from engines.load import load
from engines.manifest import SessionOptions
from engines.tensorrt import TensorRtEngine
from headrace.errors import ArtifactRejected, ConfigRejected, EngineFailed
from optimize.float8 import PRECISION, SESSION
from optimize.graphs import kinds
from optimize.measure import (
    BATCHES,
    TOGGLES,
    BatchLatency,
    Measured,
    Toggle,
    accuracy,
    agreement,
    batch_latencies,
    check_padding,
    latencies,
    padded_agreement,
    toggles_for,
    with_session,
)
from optimize.rooms import Room, graph_folder

REPEATS = 15  # of each example, when speed is measured
_BATCH_REPEATS = 9


def measure_original(room: Room) -> dict[str, Any]:
    """The original's figures and the way to load it that is clearly faster, if one is."""
    artifact = _artifact(room, "prepared", "onnxruntime", "fp32")
    examples = room.examples()
    with ExitStack() as stack:
        variants = _variants(artifact, stack)
        line = room.line("speed", REPEATS)
        turns = latencies([engine for _, engine in variants], examples, REPEATS, line)
        chosen, speeds = turns.fastest(), turns.milliseconds()
        loaded, engine = variants[chosen]
        if room.recipe.grouping == "nearest":
            check_padding(engine, examples)
        measured = Measured(
            size_bytes=artifact.manifest.size_bytes(),
            latency_ms=speeds[chosen],
            accuracy=accuracy(engine, room.recipe, room.line("accuracy")),
            latencies=_table([engine], room),
        )
    return _told(measured, loaded, speeds, chosen)


def measure(room: Room) -> dict[str, Any]:
    """A candidate's figures; both models are loaded, and take turns, so that drift is in no ratio."""
    engine_name, precision = room.options["engine"], room.options["precision"]
    session = SessionOptions.model_validate_json(room.options["original_session"])
    original = with_session(_artifact(room, "prepared", "onnxruntime", "fp32"), session)
    artifact = _artifact(room, "model", engine_name, precision)
    recipe, examples = room.recipe, room.examples()
    with ExitStack() as stack:
        reference = stack.enter_context(closing(load(original, threads=1)))
        variants = _variants(artifact, stack)
        line = room.line("speed", REPEATS)
        turns = latencies([reference, *(engine for _, engine in variants)], examples, REPEATS, line)
        chosen, (first, *speeds) = turns.without(1).fastest(), turns.milliseconds()
        loaded, engine = variants[chosen]
        mean, least = agreement(reference, engine, examples)
        is_padded = recipe.grouping == "nearest"
        padded = padded_agreement(reference, engine, examples) if is_padded else (1.0, 1.0)
        measured = Measured(
            size_bytes=artifact.manifest.size_bytes(),
            latency_ms=speeds[chosen],
            accuracy=accuracy(engine, recipe, room.line("accuracy")),
            agreement_mean=mean,
            agreement_min=least,
            padded_mean=padded[0],
            padded_min=padded[1],
            original_ms=first,
            latencies=_table([reference, engine], room),
        )
        inspection = engine.inspection if isinstance(engine, TensorRtEngine) else None
    layers = {"layers": inspection.in_words} if inspection is not None else {}
    return {**_told(measured, loaded, speeds, chosen), **layers}


def _artifact(room: Room, job: str, engine: str, precision: str) -> Artifact:
    """The graph of an earlier job, where it lies."""
    return unpublished(
        graph_folder(room.inputs[job]),
        name="candidate",
        version="1",
        graph=room.graph(job).name,
        signature=room.signature(),
        engine=engine,
        precision=precision,
        grouping=room.recipe.grouping,
    )


def _variants(artifact: Artifact, stack: ExitStack) -> list[tuple[Artifact, Engine]]:
    """The ways to load it that are worth trying, the usual one first."""
    sessions = [SessionOptions()]
    if artifact.manifest.precision == PRECISION:
        sessions = [SESSION]
    elif artifact.manifest.engine == "onnxruntime":
        graph = onnx.load(artifact.graph_path, load_external_data=False).graph
        sessions = list(toggles_for(kinds(graph)).values())
    found = []
    try:
        for session in sessions:
            loaded = with_session(artifact, session)
            found.append((loaded, stack.enter_context(closing(load(loaded, threads=1)))))
    except ArtifactRejected as err:
        kind = ConfigRejected if artifact.manifest.precision == "fp32" else EngineFailed
        raise kind(f"{artifact.manifest.engine} cannot load the graph: {err}") from err
    return found


def _table(engines: list[Engine], room: Room) -> tuple[BatchLatency, ...]:
    line = room.line("speed by batch and shape", 3 * len(BATCHES))
    return batch_latencies(engines, room.examples(), 1, _BATCH_REPEATS, line)


def _told(measured: Measured, loaded: Artifact, speeds: list[float], chosen: int) -> dict[str, Any]:
    toggles = [
        asdict(Toggle(name, speed, number == chosen))
        for number, (name, speed) in enumerate(zip(TOGGLES, speeds, strict=False))  # all, or the usual one
    ]
    return {
        "measured": asdict(measured),
        "session": loaded.manifest.session.model_dump(mode="json"),
        "toggles": toggles if len(speeds) > 1 else [],
    }


def read_measured(facts: dict[str, Any]) -> tuple[Measured, SessionOptions, tuple[Toggle, ...]]:
    """What `measure` told, as it was."""
    told = dict(facts["measured"])
    told["latencies"] = tuple(BatchLatency(**entry) for entry in told["latencies"])
    session = SessionOptions(
        graph_optimization=facts["session"]["graph_optimization"],
        disabled_optimizers=tuple(facts["session"]["disabled_optimizers"]),
    )
    return Measured(**told), session, tuple(Toggle(**entry) for entry in facts["toggles"])
