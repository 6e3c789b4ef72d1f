"""The figures of a server as one screen of a terminal (pure)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitoring.glyphs import NOTHING, bar, curve, percent, rate, seconds, size

Json = Mapping[str, Any]
_CURVE = 24  # points of 5 s: the last two minutes
_STAGE_BAR = 24


@dataclass(frozen=True, slots=True)
class _Column:
    """`least` is the width of the terminal from which on it is shown."""

    name: str
    of: Callable[[Json, Json], str]  # model, version
    least: int = 0
    justify: Literal["left", "right"] = "right"


def screen(figures: Json, width: int, chosen: str = "") -> RenderableType:
    """All of GET /v2/figures in `width` columns: problems first, then what answers, where its time goes and
    which processes do that. Stages are those of the model `chosen`, else of the one that is asked most."""
    models = figures["models"]
    parts: list[RenderableType] = [_head(figures)]
    parts += [Text(f"! {problem}", style="bold red") for problem in figures["problems"]]
    parts += [rollout_of(model) for model in models if model["rollout"]]
    parts.append(_versions(models, width))
    if model := _chosen(models, chosen):
        parts += _stages(model, width)
    parts.append(_processes(figures["processes"], width))
    parts.append(_cache(figures["cache"]))
    return Group(*parts)


def names(figures: Json) -> list[str]:
    """The models that can be chosen, in the order in which they are told."""
    return [str(model["name"]) for model in figures["models"]]


def _head(figures: Json) -> Text:
    versions = [version for model in figures["models"] for version in model["versions"]]
    gateways = figures["gateways"]
    parts = [
        f"headrace {figures['version']}",
        f"{gateways} gateway{'' if gateways == 1 else 's'}",
        f"{rate(sum(version['requests_per_s'] for version in versions))} requests/s",
        f"{rate(sum(version['errors_per_s'] for version in versions))} errors/s",
        f"{datetime.fromtimestamp(figures['now'], UTC):%H:%M:%S} UTC",
    ]
    return Text("  ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")


def rollout_of(model: Json) -> Text:
    """A line about the rollout or the test that a model has."""
    rollout = model["rollout"]
    step = f" {rollout['step_percent']:g}%" if rollout.get("step_percent") else ""
    to = f" of version {rollout['candidate']}" if rollout.get("candidate") else ""
    words = f": {rollout['words']}" if rollout.get("words") else ""
    told = f"{model['name']}: {rollout['kind']}{to}, {rollout['phase']}{step}, {rollout['state']}{words}"
    return Text(told, style="yellow")


def _name(model: Json, version: Json) -> str:
    return f"{model['name']}/{version['version']}"


def _share(_model: Json, version: Json) -> str:
    return f"{percent(version['share']):>5} {bar(version['share'], 6)}"


def _quantile(name: str) -> Callable[[Json, Json], str]:
    def told(_model: Json, version: Json) -> str:
        return seconds(version["latency_s"] and version["latency_s"][name])

    return told


def _errors(_model: Json, version: Json) -> str:
    return rate(version["errors_per_s"]) if version["errors_per_s"] else "0"


def _waiting(_model: Json, version: Json) -> str:
    return f"{version['waiting_rows']:,}"


def _oldest(_model: Json, version: Json) -> str:
    return seconds(version["oldest_s"]) if version["waiting_rows"] else NOTHING


def _replicas(_model: Json, version: Json) -> str:
    replicas = version["replicas"]
    return NOTHING if replicas is None else f"{replicas['running']}/{replicas['wanted']}"


def _fill(_model: Json, version: Json) -> str:
    count = sum(batch["batches"] for batch in version["batches"])
    if not count:
        return NOTHING
    return percent(sum(batch["fill"] * batch["batches"] for batch in version["batches"]) / count)


def _batch(_model: Json, version: Json) -> str:
    count = sum(batch["batches"] for batch in version["batches"])
    return (
        rate(sum(batch["rows"] * batch["batches"] for batch in version["batches"]) / count) if count else "-"
    )


def _hits(_model: Json, version: Json) -> str:
    tiers = version["tiers"]
    answers = sum(tiers.values())
    if not answers or tiers.get("off", 0) == answers:
        return NOTHING
    return percent(sum(tiers.get(tier, 0) for tier in ("memory", "redis")) / answers)


def _p99_curve(model: Json, version: Json) -> str:
    series = model["series"]["versions"].get(version["version"])
    return curve(series["p99"] if series else [], _CURVE)


_COLUMNS = (
    _Column("version", _name, justify="left"),
    _Column("role", lambda _, version: str(version["role"]), 100, "left"),
    _Column("share", _share, justify="left"),
    _Column("req/s", lambda _, version: rate(version["requests_per_s"])),
    _Column("rows/s", lambda _, version: rate(version["rows_per_s"]), 110),
    _Column("P50", _quantile("p50")),
    _Column("P95", _quantile("p95"), 90),
    _Column("P99", _quantile("p99")),
    _Column("err/s", _errors),
    _Column("wait", _waiting),
    _Column("oldest", _oldest, 120),
    _Column("repl", _replicas, 100),
    _Column("batch", _batch, 130),
    _Column("fill", _fill, 110),
    _Column("hits", _hits),
    _Column("P99, 2 minutes", _p99_curve, 150, "left"),
)


def _versions(models: list[Json], width: int) -> Table:
    shown = [column for column in _COLUMNS if width >= column.least]
    table = _table(*((column.name, column.justify) for column in shown))
    table.columns[0].min_width = 9
    for model in models:
        for version in model["versions"]:
            style = "cyan" if version["role"] != "stable" else ""
            table.add_row(*(column.of(model, version) for column in shown), style=style)
    if not models:
        table.add_row("no model is served")
    return table


def _chosen(models: list[Json], chosen: str) -> Json | None:
    named = [model for model in models if model["name"] == chosen] or models
    return max(named, key=_requests, default=None)


def _requests(model: Json) -> float:
    return float(sum(version["requests_per_s"] for version in model["versions"]))


def _stages(model: Json, width: int) -> list[RenderableType]:
    """Where the time goes of the version that answers most."""
    version = max(model["versions"], key=lambda one: one["requests_per_s"], default=None)
    if version is None or not version["stages"]:
        return [Text(f"{model['name']}: nothing was answered in the last minute", style="dim")]
    total = math.fsum(stage["mean"] for stage in version["stages"]) or 1.0
    table = _table(
        (_name(model, version), "left"), ("of its time", "left"), ("mean", "right"), ("P50", "right"),
        ("P95", "right"), ("P99", "right"),
    )  # fmt: skip
    for stage in version["stages"]:
        share = stage["mean"] / total
        drawn = f"{bar(share, min(_STAGE_BAR, width // 4))} {percent(share):>5}"
        times = (seconds(stage[key]) for key in ("mean", "p50", "p95", "p99"))
        table.add_row(stage["stage"], drawn, *times)
    return [table]


def _processes(processes: list[Json], width: int) -> Table:
    """Those that take most first."""
    has_gpu = any(process["gpus"] for process in processes)
    heads: list[tuple[str, Literal["left", "right"]]] = [
        ("process", "left"), ("CPU", "right"), ("memory", "right"), ("threads", "right"), ("pid", "right"),
    ]  # fmt: skip
    if width >= 100:
        heads.append(("node", "left"))
    if has_gpu:
        heads.append(("GPU", "left"))
    table = _table(*heads)
    for process in sorted(processes, key=lambda one: -one["cpu"]):
        of = f" {process['model']}/{process['version']}" if process["model"] else ""
        row = [
            f"{process['kind']}{of}",
            f"{process['cpu']:.2f}",
            size(process["memory_bytes"]),
            str(process["threads"]),
            str(process["pid"]),
        ]
        if width >= 100:
            row.append(process["node"])
        if has_gpu:
            row.append(", ".join(map(_gpu, process["gpus"])))
        table.add_row(*row)
    return table


def _gpu(gpu: Json) -> str:
    memory = f"{size(gpu['memory_bytes'])} of {size(gpu['memory_total_bytes'])}"
    return f"{gpu['index']}: {percent(gpu['utilization'])}, {memory}"


def _cache(cache: Json) -> Text:
    told = f"cache: {cache['answers']:,} in memory ({size(cache['bytes'])} of {size(cache['max_bytes'])})"
    if shared := cache["shared"]:
        limit = f" of {size(shared['max_bytes'])}" if shared["max_bytes"] else ""
        told += f", {shared['entries']:,} shared ({size(shared['bytes'])}{limit})"
    return Text(told, no_wrap=True, overflow="ellipsis")


def _table(*columns: tuple[str, Literal["left", "right"]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
    return table
