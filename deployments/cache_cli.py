"""`headrace cache`: what is remembered, and having it forgotten."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headrace.errors import NotFound

cli = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console()
_PATIENCE_S = 70.0

Address = Annotated[str, typer.Option(help="The Ray cluster.", envvar="RAY_ADDRESS")]


@cli.command()
def stats(
    address: Address = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How many answers are remembered, and where: in the shared cache and in each gateway."""
    from deployments.status import served

    told = served(address).broadcast("cache_stats").results(timeout_s=_PATIENCE_S)
    shared = told[0]["shared"] if told else None
    gateways = [{key: entry[key] for key in ("answers", "bytes", "max_bytes")} for entry in told]
    if json_output:
        print(json.dumps({"shared": shared, "gateways": gateways}, indent=2))
        return
    table = Table("cache", "answers", "MiB", "of MiB", title="Remembered")
    if shared is not None:
        limit = _mib(shared["max_bytes"]) if shared["max_bytes"] else "no limit"
        total = sum(shared["answers"].values())
        table.add_row(f"shared ({shared['policy']})", str(total), _mib(shared["bytes"]), limit)
        for name, count in sorted(shared["answers"].items()):
            table.add_row(f"  {name}", str(count), "", "")
    for number, entry in enumerate(gateways, 1):
        table.add_row(
            f"gateway {number}", str(entry["answers"]), _mib(entry["bytes"]), _mib(entry["max_bytes"])
        )
    console.print(table)


@cli.command()
def purge(
    model: Annotated[str | None, typer.Option(help="Answers of this model: NAME, or NAME/VERSION.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Answers to this tenant's requests.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All answers.")] = False,
    address: Address = "auto",
) -> None:
    """Delete answers from the shared cache and have all gateways forget them, within a second."""
    from deployments.status import served

    if everything == (model is not None or tenant is not None):
        raise typer.BadParameter("say which answers: --model, --tenant or both; or --all")
    name, _, version = (model or "").partition("/")
    scope: dict[str, Any] = {"model": name or None, "version": version or None, "tenant": tenant}
    gateways = served(address)
    try:
        count = gateways.purge.remote(**scope).result(timeout_s=_PATIENCE_S)
    except NotFound:
        gateways.broadcast("forget", **scope).results(timeout_s=_PATIENCE_S)
        console.print("forgotten by every gateway; no cache is shared")
    else:
        console.print(f"{count} answers forgotten")


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f}"
