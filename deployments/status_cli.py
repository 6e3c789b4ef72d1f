"""`headrace status`: what runs, on one screen, and what is wrong first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

console = Console()


def status(
    address: Annotated[str, typer.Option(help="The Ray cluster.", envvar="RAY_ADDRESS")] = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What runs on the cluster: problems, addresses, versions with their shares and replicas, rollouts, the
    cache. headrace top shows it live."""
    from deployments.cluster import answers_only
    from deployments.status import read_status

    with answers_only():
        state = read_status(address)
    if json_output:
        print(json.dumps(state, indent=2))
        return
    for part in screen(state):
        console.print(part, highlight=False, soft_wrap=not isinstance(part, Table))


def screen(state: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Its parts, from top to bottom."""
    from deployments.setup import in_words
    from monitoring.screen import rollout_of

    yield from (Text(f"! {problem}", style="bold red") for problem in state["problems"])
    if not state["applications"]:
        yield "nothing is served here; start it by: headrace serve CONFIG"
        return
    if state["addresses"]:
        yield f"requests go to {' and '.join(state['addresses'])}"
    yield _applications(state["applications"])
    told = state["figures"] or {"models": []}
    figures = {model["name"]: model for model in told["models"]}
    for model, versions in state["models"].items():
        yield _versions(model, versions, figures.get(model))
    yield from (rollout_of(model) for model in figures.values() if model["rollout"])
    yield _cache(state)
    for model, setups in state["setups"].items():
        for version, setup in setups.items():
            yield f"{model}/{version}: {in_words(setup)}"


def _applications(applications: Mapping[str, Any]) -> Table:
    table = Table("application", "state", "deployment", "replicas", box=None, pad_edge=False)
    for name, entry in applications.items():
        for deployment, replicas in entry["deployments"].items():
            running = ", ".join(f"{count} {kind}" for kind, count in replicas.items())
            table.add_row(name, entry["status"], deployment, running)
    return table


def _versions(model: str, versions: list[str], figures: Mapping[str, Any] | None) -> str:
    """The stable version is the last one that the gateways name."""
    from monitoring.glyphs import percent, rate, seconds

    if figures is None or not figures["versions"]:
        return f"{model}: version {versions[-1]} answers; served: {', '.join(versions)}"
    parts = []
    for version in figures["versions"]:
        p99 = version["latency_s"] and version["latency_s"]["p99"]
        asked = f"{rate(version['requests_per_s'])} requests/s, P99 {seconds(p99)}" if p99 else "not asked"
        replicas = version["replicas"]
        where = "" if replicas is None else f", {replicas['running']} of {replicas['wanted']} replicas"
        told = f"version {version['version']} ({version['role']}) {percent(version['share'])}: {asked}{where}"
        parts.append(told)
    return f"{model}: " + "; ".join(parts)


def _cache(state: Mapping[str, Any]) -> str:
    from monitoring.glyphs import size

    unheard = state.get("unheard", {})
    if "cache" in unheard:
        return "shared cache: " + ("nobody tells" if "models" in unheard else "out of reach")
    cache = state["cache"]
    if cache is None:
        return "shared cache: none"
    limit = f" of {size(cache['max_bytes'])}" if cache["max_bytes"] else ""
    return f"shared cache: answers; {cache['entries']:,} entries, {size(cache['bytes'])}{limit}"
