"""`headrace rollout`: a new version takes over step by step, or is rolled back."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headrace.errors import ConfigRejected

cli = typer.Typer(no_args_is_help=True, help=__doc__)
tests = typer.Typer(no_args_is_help=True, help="`headrace ab`: versions side by side, compared.")
console = Console()
_PATIENCE_S = 120.0  # a version's files are read and compared
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Model = Annotated[str, typer.Argument(help="The model's name.")]
Address = Annotated[str, typer.Option(help="The Ray cluster.", envvar="RAY_ADDRESS")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Why = Annotated[str, typer.Option(help="For the history.")]


@cli.command()
def start(
    model: Model,
    to: Annotated[str, typer.Option(help="The version that is to take over.")],
    steps: Annotated[str, typer.Option(help="Percent of requests in each step.")] = "1,5,25,50,100",
    interval: Annotated[str, typer.Option(help="Of each step, at least: 30s, 5m, 1h.")] = "30s",
    guard: Annotated[
        list[str] | None,
        typer.Option(
            help="p99<=1.2x, errors<=+0.5%, drift<=0.01, accuracy>=-1% and so on; may be repeated. "
            "Unless given: p50<=1.2x, p99<=1.2x, errors<=+0.5%, and drift<=0.01 with --shadow."
        ),
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Before: copies of requests, answers compared.")
    ] = False,
    shadow_percent: Annotated[float, typer.Option(help="How many requests are copied.")] = 20.0,
    min_sample: Annotated[int, typer.Option(help="Requests that a step must have seen.")] = 200,
    soak: Annotated[str, typer.Option(help="At 100%, with the former version kept warm.")] = "60s",
    address: Address = "auto",
) -> None:
    """Begin to give requests to another version: more with each step, none when a guard is violated."""
    plan: dict[str, Any] = {
        "steps": percents(steps),
        "interval_s": seconds(interval),
        "min_sample": min_sample,
        "shadow": shadow_percent if shadow else 0.0,
        "soak_s": seconds(soak),
    }
    if guard is not None:
        plan["guards"] = guard
    elif shadow:
        plan["guards"] = [*_default_guards(), "drift<=0.01"]
    _tell(_act(address, "start", model, {"to": to, **plan}))
    console.print(f"see it by: headrace rollout status {model}")


@cli.command()
def status(model: Model, address: Address = "auto", json_output: Json = False) -> None:
    """Which version answers, how far a rollout or a test is, and what was seen."""
    state = _act(address, "status", model)
    if json_output:
        print(json.dumps(state, indent=2))
        return
    _tell(state)
    seen = state["seen"]
    if seen is None:
        console.print("the monitor does not answer now; nothing is decided until it does")
        return
    if seen["problem"]:
        console.print(f"waits: {seen['problem']}", highlight=False, soft_wrap=True)
    if state["rollout"] or state["trial"]:
        _tell_versions(seen["versions"])
        if seen["guards"]:
            _tell_guards(seen["guards"])
        if seen["why"]:
            console.print(seen["why"], highlight=False, soft_wrap=True)
        if seen["effects"]:
            _tell_effects(seen["effects"])
        if seen["verdict"]:
            console.print(seen["verdict"], highlight=False, soft_wrap=True)


@cli.command()
def pause(model: Model, why: Why = "", address: Address = "auto") -> None:
    """Keep the shares as they are; nothing is decided until resume."""
    _tell(_act(address, "pause", model, {"why": why}))


@cli.command()
def resume(model: Model, why: Why = "", address: Address = "auto") -> None:
    """Go on; the step begins anew."""
    _tell(_act(address, "resume", model, {"why": why}))


@cli.command()
def promote(model: Model, why: Why = "", address: Address = "auto") -> None:
    """All requests to the candidate at once; a second time: without the rest of the soak."""
    _tell(_act(address, "promote", model, {"why": why}))


@cli.command()
def rollback(model: Model, why: Why = "", address: Address = "auto") -> None:
    """All requests to the stable version at once; when no rollout is under way, to the one before it."""
    _tell(_act(address, "rollback", model, {"why": why} if why else {}))


@cli.command()
def history(model: Model, address: Address = "auto", json_output: Json = False) -> None:
    """What became of the model's rollouts and tests."""
    events = _act(address, "history", model)["events"]
    if json_output:
        print(json.dumps(events, indent=2))
        return
    table = Table("at (UTC)", "what", "version", "percent", "why")
    for event in events:
        at = event["at"].partition("+")[0].replace("T", " ")
        what = event["what"].replace("_", " ")
        table.add_row(at, what, event["version"], f"{event['percent']:g}", event["why"])
    console.print(table)


@tests.command("start")
def start_test(
    model: Model,
    variants: Annotated[str, typer.Option(help="Versions with their shares in percent: 1=50,3=50.")],
    address: Address = "auto",
) -> None:
    """Have two or more versions answer side by side, for as long as you want; the one that answers now is the
    baseline. A caller who is named by the header headrace-caller meets the same one each time."""
    _tell(_act(address, "test", model, {"variants": shares(variants)}))
    console.print(f"see it by: headrace rollout status {model}")


@tests.command("end")
def end_test(
    model: Model,
    keep: Annotated[str | None, typer.Option(help="The version that answers from now on.")] = None,
    why: Why = "ended by hand",
    address: Address = "auto",
) -> None:
    """All requests to one version again: the one from before the test, unless you say another."""
    _tell(_act(address, "end", model, {"keep": keep, "why": why}))


def seconds(text: str) -> float:
    """30, 30s, 5m, 1h or 2d in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|d|)", text.strip())
    if found is None:
        raise ConfigRejected(f"{text[:40]!r} is no time; times look like 30s, 5m, 1h or 2d")
    return float(found[1]) * _UNITS[found[2]]


def percents(text: str) -> list[float]:
    """1,5,25 as numbers."""
    try:
        return [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError as err:
        raise ConfigRejected(f"steps {text[:60]!r} must be percents such as 1,5,25,50,100") from err


def shares(text: str) -> dict[str, float]:
    """1=50,3=50 as percent by version."""
    found = {}
    for part in text.split(","):
        version, _, percent = part.partition("=")
        try:
            found[version.strip()] = float(percent.strip().removesuffix("%"))
        except ValueError as err:
            raise ConfigRejected(f"variants {text[:60]!r} must look like 1=50,3=50") from err
    return found


def _default_guards() -> tuple[str, ...]:
    from rollout.guards import DEFAULT_GUARDS

    return DEFAULT_GUARDS


def _act(address: str, action: str, model: str, arguments: dict[str, Any] | None = None) -> Any:
    from deployments.cluster import answers_only
    from deployments.status import served

    with answers_only():
        return served(address).rollout.remote(action, model, arguments).result(timeout_s=_PATIENCE_S)


def _tell(state: dict[str, Any]) -> None:
    parts = [f"version {version} {100 * share:.4g}%" for version, share in state["split"].items()]
    split = ", ".join(parts)
    console.print(f"{state['model']}: {split}; version {state['stable']} is the stable one", highlight=False)
    if state["problem"]:
        console.print(f"held as it was: {state['problem']}", highlight=False, soft_wrap=True)
    if rollout := state["rollout"]:
        paused = f", paused: {rollout['paused']}" if rollout["paused"] else ""
        steps = ",".join(f"{step:g}" for step in rollout["plan"]["steps"])
        console.print(
            f"rollout to version {rollout['candidate']}: {rollout['phase']}{paused}; steps {steps}; "
            f"guards {', '.join(rollout['plan']['guards']) or 'none'}",
            highlight=False,
            soft_wrap=True,
        )
    if state["history"]:
        last = state["history"][-1]
        console.print(
            f"last: {last['what'].replace('_', ' ')}: {last['why']}", highlight=False, soft_wrap=True
        )


def _tell_versions(versions: dict[str, dict[str, Any]]) -> None:
    columns = ("requests", "errors", "p50", "p95", "p99", "hits", "replica_s_per_1000", "drift", "accuracy")
    table = Table("version", *(column.replace("_", " ") for column in columns))
    for version, figures in versions.items():
        table.add_row(version, *(_figure(column, figures[column]) for column in columns))
    console.print(table)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in ("errors", "hits", "drift", "accuracy"):
        return f"{value:.2%}"
    return f"{value * 1000:.1f} ms" if name.startswith("p") else f"{value:.4g}"


def _tell_effects(effects: list[dict[str, Any]]) -> None:
    table = Table("measure", "variant", "against the baseline", "surely between", "and")
    for effect in effects:
        numbers = (f"{effect[key]:.4g}" for key in ("value", "low", "high"))
        table.add_row(effect["measure"], effect["variant"], f"{effect['relation']} {next(numbers)}", *numbers)
    console.print(table)


def _tell_guards(guards: list[dict[str, Any]]) -> None:
    table = Table("guard", "value", "state", "evidence against")
    for guard in guards:
        value = "-" if guard["value"] is None else f"{guard['value']:.4g}"
        table.add_row(guard["guard"], value, guard["state"], f"{guard['evidence']:.3g}")
    console.print(table)
