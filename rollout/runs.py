"""Runs of load: what one has measured, as figures and JSON, and two of them compared (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from headrace.errors import ConfigRejected
from headrace.sketch import Sketch
from rollout import resample
from rollout.effects import FEWEST_REQUESTS, QUANTILES, Effect
from rollout.evidence import Slot, together
from rollout.fingerprint import Fingerprint
from rollout.resample import FEWEST_WINDOWS

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Run:
    """`windows` are as long as each other, oldest first. A request belongs to the one in which it was sent,
    or was to be sent; latencies are in seconds, of good answers."""

    load: Mapping[str, str]  # what was asked, in words
    rows: float  # of a request, as a mean
    window_s: float
    windows: tuple[Slot, ...]
    statuses: Mapping[str, int] = field(default_factory=dict)  # of all answers; "0": none came
    late_p99_s: float = 0.0  # how late the client was itself, open loop
    command: str = ""
    at: str = ""  # UTC
    machine: Fingerprint | None = None  # the client's

    @property
    def seconds(self) -> float:
        return self.window_s * len(self.windows)

    def figures(self) -> dict[str, float | None]:
        """Rates per second, latencies in seconds (None without a good answer), shares of all requests."""
        whole = together(self.windows)
        good = whole.requests - whole.errors
        shares = {name: _quantile(whole.latency, share) for name, share in QUANTILES.items()}
        return {
            "requests": whole.requests,
            "requests_per_s": good / self.seconds if self.seconds else None,
            "rows_per_s": good * self.rows / self.seconds if self.seconds else None,
            **shares,
            "max": _quantile(whole.latency, 1.0),
            "errors": whole.errors / whole.requests if whole.requests else None,
            "hits": whole.hits / whole.requests if whole.requests else None,
        }


def effects(before: Run, after: Run) -> list[Effect]:
    """What `after` has otherwise than `before`, with intervals that hold together with 95%; nothing when one
    of them has too few requests. They are about these runs: what differs from one start of a server to the
    next is not in them."""
    found = resample.effects(before.windows, after.windows, before.window_s / after.window_s)
    is_open = "rate" in after.load  # its throughput is the rate that was asked for
    return [effect for effect in found if not (is_open and effect.measure == "throughput")]


def words(before: Run, after: Run, found: list[Effect]) -> list[str]:
    """Whether the difference is beyond noise, in sentences."""
    said = []
    unlike = [
        f"{name} was {before.load.get(name, 'not given')}, now {after.load.get(name, 'not given')}"
        for name in dict.fromkeys([*before.load, *after.load])
        if before.load.get(name) != after.load.get(name)
    ]
    if unlike:
        said.append(f"Not the same load: {'; '.join(unlike)}.")
    if not found:
        needed = f"{FEWEST_REQUESTS} requests, spread over {FEWEST_WINDOWS} of its windows"
        return [*said, f"No verdict: each run needs {needed}; ask more often or for longer."]
    worse = [_claim(effect) for effect in found if effect.is_clear and _is_worse(effect)]
    better = [_claim(effect) for effect in found if effect.is_clear and not _is_worse(effect)]
    alike = [_name(effect) for effect in found if not effect.is_clear]
    for verdict, claims in (("Worse", worse), ("Better", better)):
        if claims:
            said.append(f"{verdict} beyond noise: {', '.join(claims)}.")
    if alike:
        said.append(f"Within noise: {', '.join(alike)}.")
    return [*said, "What differs from one start of a server to the next is not in this."]


def dump(run: Run) -> bytes:
    """A run as JSON that `parse` reads."""
    windows = [
        {
            "requests": slot.requests,
            "errors": slot.errors,
            "hits": slot.hits,
            "latency": {str(number): count for number, count in sorted(slot.latency.bins.items())},
        }
        for slot in run.windows
    ]
    document = {
        "format": _FORMAT,
        "command": run.command,
        "at": run.at,
        "machine": run.machine and run.machine.model_dump(mode="json"),
        "load": dict(run.load),
        "rows": run.rows,
        "figures": run.figures(),
        "late_p99_s": run.late_p99_s,
        "statuses": dict(run.statuses),
        "window_s": run.window_s,
        "windows": windows,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def parse(data: bytes, name: str) -> Run:
    """The run that a file of this name holds; ConfigRejected when it holds none."""
    try:
        saved = _Saved.model_validate_json(data)
    except ValidationError as err:
        problem = err.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "document"
        raise ConfigRejected(
            f"{name} is no saved run of this release ({where}: {problem['msg']}); write one by: "
            f"headrace bench URL --model NAME --json {name}"
        ) from err
    windows = tuple(
        Slot(entry.requests, entry.errors, entry.hits, Sketch(dict(entry.latency))) for entry in saved.windows
    )
    return Run(
        load=saved.load,
        rows=saved.rows,
        window_s=saved.window_s,
        windows=windows,
        statuses=saved.statuses,
        late_p99_s=saved.late_p99_s,
        command=saved.command,
        at=saved.at,
        machine=saved.machine,
    )


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _SavedWindow(_Part):
    requests: int = Field(ge=0)
    errors: int = Field(ge=0)
    hits: int = Field(ge=0)
    latency: dict[int, int]


class _Saved(_Part):
    format: int = Field(ge=_FORMAT, le=_FORMAT)
    command: str
    at: str
    machine: Fingerprint | None
    load: dict[str, str]
    rows: FiniteFloat = Field(gt=0)
    figures: dict[str, FiniteFloat | None]  # told again from the windows
    late_p99_s: FiniteFloat
    statuses: dict[str, int]
    window_s: FiniteFloat = Field(gt=0)
    windows: list[_SavedWindow]


def _is_worse(effect: Effect) -> bool:
    is_more = effect.low > (1.0 if effect.relation == "ratio" else 0.0)
    return is_more != (effect.measure == "throughput")


def _claim(effect: Effect) -> str:
    if effect.relation == "difference":
        return f"{_name(effect)} {100 * effect.low:+.2g} to {100 * effect.high:+.2g} points"
    return f"{_name(effect)} {effect.low:.3g} to {effect.high:.3g} times"


def _name(effect: Effect) -> str:
    return effect.measure.upper() if effect.measure in QUANTILES else effect.measure


def _quantile(latency: Sketch, share: float) -> float | None:
    return latency.quantile(share) if latency.bins else None
