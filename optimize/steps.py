"""The steps a model can be taken through, and how they are written: "distill > int8-static(method=entropy)".

A chain of steps makes one candidate after each step. Steps that train come first, as they need the
torch module; INT8 or FP16 comes last, as it is made from the graph.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, Literal

from headrace.errors import ConfigRejected
from optimize.ranges import METHODS, Method

Rest = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True, slots=True)
class Step:
    """One technique with its settings; None: found out by trying."""

    name: ClassVar[str]
    trains: ClassVar[bool] = False
    least_size: ClassVar[float] = 0.0  # of the model it starts from
    needs: ClassVar[tuple[str, ...]] = ()  # functions of the recipe

    def options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class QuantizeDynamic(Step):
    """Weights in INT8, activations scaled at run time: no calibration."""

    name: ClassVar[str] = "int8-dynamic"
    least_size: ClassVar[float] = 0.25
    per_channel: bool = True
    reduce_range: bool | None = None  # weights in 7 bits; None: on CPUs whose sums saturate


@dataclass(frozen=True, slots=True)
class QuantizeStatic(Step):
    """Weights and activations in INT8, with fixed ranges from calibration."""

    name: ClassVar[str] = "int8-static"
    least_size: ClassVar[float] = 0.25
    needs: ClassVar[tuple[str, ...]] = ("calibration",)
    method: Method | None = None
    per_channel: bool = True
    smooth: float | None = None  # SmoothQuant's alpha from the start; None: only if the budget fails
    fallback: bool = True  # when the budget fails: SmoothQuant, then the worst layers back to FP32
    reduce_range: bool | None = None  # weights in 7 bits; None: tried on CPUs without VNNI
    symmetric: bool | None = None  # True: as TensorRT takes it, for a GPU elsewhere; None: as the engine does
    rest: Rest | None = None  # what is not quantized; None: FP16 for TensorRT


@dataclass(frozen=True, slots=True)
class QuantizeFloat8(Step):
    """Weights and activations in FP8 (E4M3), for GPUs from compute capability 8.9 on."""

    name: ClassVar[str] = "fp8-static"
    least_size: ClassVar[float] = 0.25
    needs: ClassVar[tuple[str, ...]] = ("calibration",)
    per_channel: bool = True
    rest: Rest | None = None  # what is not quantized; None: FP16 for TensorRT


@dataclass(frozen=True, slots=True)
class Precision(Step):
    """Half precision, where the engine can compute it; on other CPUs for storage only."""

    name: ClassVar[str] = "fp16"
    least_size: ClassVar[float] = 0.5
    to: Literal["fp16", "bf16"] = "fp16"


@dataclass(frozen=True, slots=True)
class Compile(Step):
    """Kernels written and compiled for this kind of processor, in FP32: for targets aot and aot-cuda."""

    name: ClassVar[str] = "compile"
    least_size: ClassVar[float] = 1.0


@dataclass(frozen=True, slots=True)
class PruneWeights(Step):
    """The smallest weights set to zero, in rounds with fine-tuning."""

    name: ClassVar[str] = "prune-weights"
    trains: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("train",)
    least_size: ClassVar[float] = 1.0
    sparsity: float = 0.8
    pattern: Literal["any", "2:4"] = "any"
    rounds: int = 2
    epochs: int = 1  # of each round


@dataclass(frozen=True, slots=True)
class PruneChannels(Step):
    """Whole channels, neurons and heads removed, in rounds with fine-tuning."""

    name: ClassVar[str] = "prune-channels"
    trains: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("train",)
    ratio: float = 0.5
    rounds: int = 2
    epochs: int = 1


@dataclass(frozen=True, slots=True)
class Distill(Step):
    """A smaller network that learns from the model's answers."""

    name: ClassVar[str] = "distill"
    trains: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("student", "validate")
    temperatures: tuple[float, ...] = (2.0, 4.0)
    alphas: tuple[float, ...] = (0.5, 0.9)
    epochs: int = 3
    lr: float = 4e-3


STEPS: Mapping[str, type[Step]] = {
    step.name: step
    for step in (
        *(QuantizeDynamic, QuantizeStatic, QuantizeFloat8, Precision, Compile),
        *(PruneWeights, PruneChannels, Distill),
    )
}
Chain = tuple[Step, ...]
# What is tried when nothing is asked for, in the order in which equals are preferred.
DEFAULT: tuple[Chain, ...] = ((QuantizeStatic(),), (QuantizeDynamic(),), (Precision(),))
COMPILED: tuple[Chain, ...] = ((Compile(),), (Precision("bf16"),))  # likewise, for targets aot and aot-cuda
_STEP = re.compile(r"\s*([a-z0-9-]+)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_chain(text: str) -> Chain:
    """(Distill(), QuantizeStatic(method="entropy")) from "distill > int8-static(method=entropy)"."""
    return check_chain(tuple(_parse(part) for part in text.split(">")))


def check_chain(chain: Chain) -> Chain:
    """The chain, if its steps can follow each other."""
    if not chain:
        raise ConfigRejected(f"a chain needs a step; there are: {', '.join(STEPS)}")
    for first, second in pairwise(chain):
        if not first.trains:
            raise ConfigRejected(
                f"'{second.name}' cannot follow '{first.name}', which makes a finished graph; put it before"
            )
    for step in chain:
        _check(step)
    return chain


def named(chain: Iterable[Step]) -> str:
    return " > ".join(step.name for step in chain)


def written(chain: Iterable[Step]) -> str:
    """The chain as text that `parse_chain` reads, settings that differ from the usual ones included."""
    return " > ".join(_written(step) for step in chain)


def _written(step: Step) -> str:
    usual = type(step)().options()
    changed = [f"{name}={value}" for name, value in step.options().items() if value != usual[name]]
    return f"{step.name}({', '.join(changed)})" if changed else step.name


def _parse(text: str) -> Step:
    match = _STEP.fullmatch(text)
    if match is None or match[1] not in STEPS:
        raise ConfigRejected(
            f"step {text.strip()!r} is unknown; write one of {', '.join(STEPS)}, such as "
            f"'distill > int8-static(method=entropy)'"
        )
    kind = STEPS[match[1]]
    usual = kind().options()
    found: dict[str, Any] = {}
    for part in re.split(r",(?![^(\[]*[)\]])", match[2] or ""):
        if not part.strip():
            continue
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or name not in usual:
            raise ConfigRejected(
                f"setting {part.strip()!r} of '{kind.name}' is unknown; there are: "
                f"{', '.join(f'{key}={value}' for key, value in usual.items())}"
            )
        found[name] = _value(value)
    return kind(**found)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word without quotes


def _check(step: Step) -> None:
    problem = ""
    match step:
        case QuantizeStatic(method=method) if method is not None and method not in METHODS:
            problem = f"method is {method!r}; allowed: {', '.join(METHODS)}"
        case QuantizeStatic(smooth=alpha) if alpha is not None and not _within(alpha, 0, 1):
            problem = f"smooth is {alpha!r}; it must be a number from 0 to 1"
        case QuantizeStatic(symmetric=symmetric) if symmetric not in (None, True, False):
            problem = f"symmetric is {symmetric!r}; it must be True or False"
        case QuantizeStatic(rest=rest) | QuantizeFloat8(rest=rest) if rest not in (
            None,
            "fp32",
            "fp16",
            "bf16",
        ):
            problem = f"rest is {rest!r}; allowed: fp32, fp16, bf16"
        case PruneWeights(sparsity=sparsity) if not _within(sparsity, 0.01, 0.99):
            problem = f"sparsity is {sparsity!r}; it must be from 0.01 to 0.99"
        case PruneWeights(pattern=pattern) if pattern not in ("any", "2:4"):
            problem = f"pattern is {pattern!r}; allowed: any, 2:4"
        case PruneChannels(ratio=ratio) if not _within(ratio, 0.01, 0.95):
            problem = f"ratio is {ratio!r}; it must be from 0.01 to 0.95"
        case Precision(to=to) if to not in ("fp16", "bf16"):
            problem = f"to is {to!r}; allowed: fp16, bf16"
        case Distill(temperatures=temperatures, alphas=alphas):
            if not _all_within(temperatures, 0.1, 100) or not _all_within(alphas, 0, 1):
                problem = "temperatures must be a tuple of numbers from 0.1 to 100, alphas one from 0 to 1"
        case _:
            pass
    for name in ("rounds", "epochs"):
        count = step.options().get(name, 1)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1000:
            problem = f"{name} is {count!r}; it must be a whole number from 1 to 1000"
    if problem:
        raise ConfigRejected(f"step '{step.name}': {problem}")


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _all_within(values: object, low: float, high: float) -> bool:
    return isinstance(values, tuple | list) and bool(values) and all(_within(v, low, high) for v in values)
