"""What becomes of a model in one chain of steps: jobs one after the other, a row for every candidate.

A step that fails ends its chain; what the steps before it made stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engines.cpu import cpu_flags
from engines.manifest import SessionOptions
from headrace.errors import ArtifactRejected, ConfigRejected, EngineFailed, HeadraceError
from optimize import compiled, steps
from optimize.goals import Goals, judge
from optimize.jobs import Done, Job, Jobs, reason_of
from optimize.measure import Measured
from optimize.measuring import read_measured
from optimize.precision import can_compute
from optimize.quantize import saturates
from optimize.ranges import METHODS
from optimize.report import Layer, Row
from optimize.steps import Chain, Compile, Precision, QuantizeDynamic, QuantizeFloat8, QuantizeStatic, Step

ALPHAS = (0.5, 0.65, 0.8, 0.95)  # of SmoothQuant
_MOST_FALLBACK = 0.5  # of the layers
_ABOUT_ACCURACY = {"max_drop", "min_accuracy"}


class RecipeWrong(Exception):
    """A mistake in the recipe that was found on the way: it ends the whole run."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the report and, when it could be measured, the job that made its graph."""

    row: Row
    made: Done | None = None
    missed: frozenset[str] = frozenset()  # names of goals

    @property
    def is_inaccurate(self) -> bool:
        return bool(self.missed & _ABOUT_ACCURACY)

    @property
    def accuracy(self) -> float:
        return self.row.measured.accuracy if self.row.measured else -math.inf


@dataclass(frozen=True, slots=True)
class Base:
    """Where a step begins: a job with a graph, and what had been done to it."""

    done: Done
    chain: Chain = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)


class Flow:
    """The chains of one run; `sensitivity` holds the last that was measured."""

    def __init__(self, jobs: Jobs, goals: Goals, prepared: Done, original: Done) -> None:
        self._jobs = jobs
        self._goals = goals
        self._prepared = prepared
        self._original, self._session, _ = read_measured(dict(original.facts))
        self.sensitivity: tuple[Layer, ...] = ()

    def run(self, chain: Chain, engine: str) -> Iterator[Candidate]:
        """Every candidate of a chain on an engine, refused and failed ones included."""
        base = Base(self._prepared)
        for step in chain:
            try:
                if step.trains:
                    base = self._train(step, base)
                    yield self._measured(base.done, _name(base.chain), base, "fp32", engine)
                else:
                    yield from self._from_graph(step, base, engine)
            except (ConfigRejected, ArtifactRejected, EngineFailed) as err:
                yield Candidate(self._failed(step, base, engine, err))
                return

    def _from_graph(self, step: Step, base: Base, engine: str) -> Iterator[Candidate]:
        if engine in compiled.DEVICES:
            yield self._compiled(step, base, engine)
            return
        match step:
            case QuantizeStatic():
                yield from self._static(step, base, engine)
            case QuantizeFloat8():
                yield self._float8(step, base, engine)
            case QuantizeDynamic():
                if engine != "onnxruntime":
                    raise ConfigRejected(f"{engine} has no dynamic INT8; use int8-static")
                yield from self._dynamic(step, base, engine)
            case Precision():
                yield self._half(step, base, engine)
            case Compile():
                raise ConfigRejected(
                    f"{engine} compiles by itself; compile is a step for targets aot and aot-cuda"
                )
            case _:
                raise AssertionError(step)

    def _compiled(self, step: Step, base: Base, engine: str) -> Candidate:
        if not isinstance(step, Compile | Precision):
            raise ConfigRejected(
                f"{engine} takes compile, fp16 and bf16, no {step.name}: INT8 runs in onnxruntime, openvino "
                "and tensorrt"
            )
        precision = step.to if isinstance(step, Precision) else "fp32"
        if why_not := compiled.can_compile(precision, engine):
            raise ConfigRejected(why_not)
        name = steps.written((step,)) if isinstance(step, Compile) else precision
        device = compiled.DEVICES[engine]
        options = {"precision": precision, "device": device}
        made = self._job("compile", f"compiling for {device}, {precision}", options, module=base.done)
        kind = "GPU" if device == "cuda" else "processor"
        stages = {"compilation": f"AOTInductor, {precision}, for this kind of {kind} alone"}
        return self._measured(made, _name(base.chain, name), base, precision, engine, stages)

    def _dynamic(self, step: QuantizeDynamic, base: Base, engine: str) -> Iterator[Candidate]:
        """Where sums saturate weights have 7 bits; if these cost too much accuracy, 8 are tried, too."""
        tried = (
            [step.reduce_range]
            if step.reduce_range is not None
            else [True, False]
            if saturates()
            else [False]
        )
        for reduce_range in tried:
            name = steps.written(
                (replace(step, reduce_range=None if reduce_range == tried[0] else reduce_range),)
            )
            settings = {**step.options(), "reduce_range": reduce_range}
            made = self._job("dynamic", name, settings, model=base.done)
            bits = 7 if reduce_range else 8
            stages = {"conversion": f"weights in {bits} bits; activations scaled at run time, uncalibrated"}
            found = self._measured(made, _name(base.chain, name), base, step.name, engine, stages)
            yield found
            if not found.is_inaccurate:
                return

    def _train(self, step: Step, base: Base) -> Base:
        done = self._job(step.name, step.name, step.options(), module=base.done)
        chain = (*base.chain, step)
        return Base(
            done, chain, {**base.facts, **done.facts["figures"]}, {**base.stages, **done.facts["stages"]}
        )

    def _half(self, step: Precision, base: Base, engine: str) -> Candidate:
        why_not = can_compute(step.to, engine, cpu_flags())
        if why_not and step.to == "bf16":
            raise ConfigRejected(why_not)
        stages = {
            "conversion": f"weights stored as FP16, computed in FP32: {why_not}" if why_not else step.to
        }
        if step.to == "bf16" and engine != "tensorrt":  # the engine rounds by itself
            return self._measured(base.done, _name(base.chain, step.to), base, step.to, engine, stages)
        options = {"is_stored_only": bool(why_not), "to": step.to}
        made = self._job("precision", step.to, options, model=base.done)
        return self._measured(made, _name(base.chain, step.to), base, step.to, engine, stages)

    def _static(self, step: QuantizeStatic, base: Base, engine: str) -> Iterator[Candidate]:
        """INT8 as it is; if that costs too much accuracy, smoothed; then the worst layers back in FP32."""
        start = replace(self._calibrated(step, base, engine), name=steps.written((step,)))
        if step.smooth is not None:
            start = self._smoothed(start, step.smooth)
        best = self._quantized(start, base, engine)
        yield best
        if not step.fallback or not best.is_inaccurate:
            return
        if step.smooth is None and start.products:
            tuned = self._job(
                "tune-smooth", "SmoothQuant's alpha", {**start.how, "alphas": list(ALPHAS)}, **start.inputs
            )
            smoother = self._smoothed(start, tuned.facts["alpha"], tuned.facts["errors"])
            smoothed = self._quantized(smoother, base, engine)
            yield smoothed
            if not smoothed.is_inaccurate:
                return
            if smoothed.accuracy >= best.accuracy:
                start = smoother
        yield from self._fallback(start, base, engine)

    def _fallback(self, start: _Start, base: Base, engine: str) -> Iterator[Candidate]:
        """Depthwise convolutions in FP32, then 1, 2, 4, ... of the worst layers too, until accuracy is
        within its budget."""
        how = {key: start.how[key] for key in ("method", "per_channel", "is_symmetric", "reduce_range")}
        ranked = self._job("sensitivity", "sensitivity by layer", how, **start.inputs)
        self.sensitivity = tuple(Layer(*entry) for entry in ranked.facts["layers"])
        worst = [layer.name for layer in self.sensitivity if layer.name not in start.depthwise]
        count = 0 if start.depthwise else 1
        while count <= len(worst) * _MOST_FALLBACK:
            candidate = self._quantized(
                replace(start, exclude=(*start.depthwise, *worst[:count])), base, engine
            )
            yield candidate
            if not candidate.is_inaccurate:
                return
            count = 2 * count or 1

    def _float8(self, step: QuantizeFloat8, base: Base, engine: str) -> Candidate:
        if engine == "openvino":
            raise ConfigRejected("openvino has no FP8; use int8-static")
        inputs = self._watched(step, base)
        rest = step.rest or _rest(engine)
        options = {"per_channel": step.per_channel, "rest": rest}
        made = self._job("float8", f"conversion, {step.name}", options, **inputs)
        name = steps.written((step,))
        counts = f"{made.facts['quantized']} of {made.facts['layers']} layers"
        told = f"Q/DQ, E4M3, {counts}; the rest in {rest.upper()}"
        if engine == "onnxruntime":
            told += "; rounded, but not computed in FP8 here, as it is on GPUs from 8.9 on"
        return self._measured(made, _name(base.chain, name), base, step.name, engine, {"conversion": told})

    def _watched(self, step: Step, base: Base) -> dict[str, Done]:
        """The prepared graph, and what its tensors were seen to hold."""
        self._jobs.recipe.need("calibration", step.name)
        model = self._job("preprocess", "preparing the graph", {}, model=base.done)
        try:
            statistics = self._job("calibrate", "calibration", {}, model=model)
        except ConfigRejected as err:
            raise RecipeWrong(str(err)) from err
        return {"model": model, "statistics": statistics, "reference": base.done}

    def _calibrated(self, step: QuantizeStatic, base: Base, engine: str) -> _Start:
        """Calibration, and the ranges that are nearest to the original."""
        inputs = self._watched(step, base)
        model, statistics = inputs["model"], inputs["statistics"]
        methods = [step.method] if step.method else list(METHODS)
        is_for_gpus = engine == "tensorrt" or bool(step.symmetric)
        is_symmetric = engine != "onnxruntime" if step.symmetric is None else step.symmetric
        how = {"per_channel": step.per_channel, "is_symmetric": is_symmetric}
        if is_for_gpus:
            how["quantizes_bias"] = False
        reduce_ranges = [step.reduce_range] if step.reduce_range is not None else _reduce_ranges(engine)
        told = "as asked for"
        chosen: Mapping[str, Any] = {"method": methods[0], "reduce_range": reduce_ranges[0]}
        if len(methods) * len(reduce_ranges) > 1:
            chosen = self._job(
                "tune",
                "range determination",
                {"methods": methods, "reduce_ranges": reduce_ranges, **how},
                **inputs,
            ).facts
            told = f"nearest to the original of {len(chosen['errors'])} tried"
        rows, bits = statistics.facts["rows"], 7 if chosen["reduce_range"] else 8
        per = "channel" if step.per_channel else "tensor"
        stages = {
            "calibration": f"{rows} inputs, {statistics.facts['tensors']} tensors watched",
            "range determination": f"{chosen['method']} per tensor; weights in {bits} bits per {per}; {told}",
        }
        how |= {"method": chosen["method"], "reduce_range": chosen["reduce_range"]}
        rest = step.rest or _rest(engine)
        return _Start(inputs, how, rest, stages, model.facts["products"], tuple(model.facts["depthwise"]))

    def _smoothed(self, start: _Start, alpha: float, tried: Mapping[str, float] | None = None) -> _Start:
        """The same graph with smaller activations, calibrated anew."""
        options = {"alpha": alpha}
        model = self._job("smooth", "SmoothQuant", options, **start.inputs)
        statistics = self._job("calibrate", "calibration, smoothed", {}, model=model)
        among = f", the best of {', '.join(tried)} on calibration inputs" if tried else ""
        stages = {**start.stages, "smoothing": f"SmoothQuant, alpha {alpha:g}{among}"}
        return replace(
            start,
            inputs={**start.inputs, "model": model, "statistics": statistics},
            stages=stages,
            suffix=" + smooth" if tried else "",
        )

    def _quantized(self, start: _Start, base: Base, engine: str) -> Candidate:
        options = {**start.how, "exclude": list(start.exclude), "rest": start.rest}
        suffix = start.suffix
        if start.exclude:
            suffix += f", {len(start.exclude)} layer{'s' * (len(start.exclude) > 1)} in {start.rest.upper()}"
        name = f"{start.name}{suffix}"
        made = self._job("static", f"conversion, {name}", options, **start.inputs)
        kind = "S8S8" if start.how["is_symmetric"] else "U8S8"
        told = f"Q/DQ, {kind}, {made.facts['quantized']} of {made.facts['layers']} layers"
        stages = {**start.stages, "conversion": told}
        if start.rest != "fp32":
            stages["conversion"] += f"; the rest in {start.rest.upper()}"
        if start.exclude:
            stages["conversion"] += f"; in {start.rest.upper()}: {', '.join(start.exclude)}"
        return self._measured(made, _name(base.chain, name), base, "int8-static", engine, stages)

    def _measured(
        self,
        made: Done,
        name: str,
        base: Base,
        precision: str,
        engine: str,
        stages: Mapping[str, str] | None = None,
    ) -> Candidate:
        """The row of a graph: good, or the goals it missed."""
        options = {
            "engine": engine,
            "precision": precision,
            "original_session": self._session.model_dump_json(),
        }
        label = name if engine == "onnxruntime" else f"{name} on {engine}"
        told = self._job("measure", label, options, model=made)
        measured, session, toggles = read_measured(dict(told.facts))
        misses = judge(self._goals, self._original, measured)
        inspected = {"engine": told.facts["layers"]} if "layers" in told.facts else {}
        told_stages = {**base.stages, **(stages or {}), **inspected}
        row = Row(
            name=name,
            steps=tuple(name.split(" > ")),
            engine=engine,
            precision=precision,
            status="missed" if misses else "good",
            reason="; ".join(map(str, misses)),
            session=session,
            measured=measured,
            stages={**told_stages, "validation": _validation(measured, self._original)},
            toggles=toggles,
            facts=base.facts,
        )
        return Candidate(row, made, frozenset(miss.goal for miss in misses))

    def _failed(self, step: Step, base: Base, engine: str, err: HeadraceError) -> Row:
        before = f"after {steps.named(base.chain)}: " if base.chain else ""
        name = _name(base.chain, step.to if isinstance(step, Precision) else steps.written((step,)))
        return Row(
            name=name,
            steps=tuple(name.split(" > ")),
            engine=engine,
            precision=step.name,
            status="failed" if isinstance(err, EngineFailed) else "refused",
            reason=before + reason_of(err),
            session=SessionOptions(),
        )

    def _job(self, kind: str, label: str, options: Mapping[str, Any], **inputs: Done) -> Done:
        return self._jobs.run(Job(kind, label, options, {**inputs, "prepared": self._prepared}))


@dataclass(frozen=True, slots=True)
class _Start:
    """A graph that is ready to be quantized, and how."""

    inputs: Mapping[str, Done]  # model, statistics, reference: what the model is to be near to
    how: Mapping[str, Any]
    rest: str  # the precision of what is not quantized
    stages: Mapping[str, str]
    products: int  # that could be smoothed
    depthwise: tuple[str, ...] = ()  # convolutions with a filter for each channel
    name: str = ""  # of the step, as it was asked for
    suffix: str = ""
    exclude: tuple[str, ...] = ()


def _rest(engine: str) -> str:
    """What is not quantized: on GPUs FP16 costs half of FP32, and next to no accuracy."""
    return "fp16" if engine == "tensorrt" else "fp32"


def _reduce_ranges(engine: str) -> list[bool]:
    """Without VNNI a sum of two U8S8 products saturates at 16 bits: weights of 7 bits are tried, too."""
    return [False, True] if engine == "onnxruntime" and saturates() else [False]


def _validation(measured: Measured, original: Measured) -> str:
    change = measured.accuracy - original.accuracy
    return f"evaluate() {measured.accuracy:.4f} ({change:+.4f} of the original)"


def _name(chain: Chain, last: str = "") -> str:
    """The steps as they were asked for, so that two of a kind with unlike settings are told apart."""
    return " > ".join([*(steps.written((step,)) for step in chain), *([last] if last else [])])
