"""`headrace cache`: what is remembered, and having it forgotten."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headrace.errors import CallerError, NotFound

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
    from deployments.everyone import ask_all
    from deployments.status import served

    told = ask_all(served(address), "cache_stats", timeout_s=_PATIENCE_S)
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
    key: Annotated[str | None, typer.Option(help="The answer with this key, as record writes it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All answers.")] = False,
    address: Address = "auto",
) -> None:
    """Delete answers from the shared cache and have all gateways forget them, within a second."""
    from deployments.everyone import ask_all
    from deployments.status import served

    if everything == any(given is not None for given in (model, tenant, key)):
        raise typer.BadParameter("say which answers: --model, --tenant, --key or several; or --all")
    name, _, version = (model or "").partition("/")
    scope: dict[str, Any] = {"model": name or None, "version": version or None, "tenant": tenant, "key": key}
    gateways = served(address)
    try:
        count = gateways.purge.remote(**scope).result(timeout_s=_PATIENCE_S)
    except NotFound:
        ask_all(gateways, "forget", **scope, timeout_s=_PATIENCE_S)
        console.print("forgotten by every gateway; no cache is shared")
    else:
        console.print(f"{count} answers forgotten")


@cli.command()
def simulate(
    log: Annotated[
        Path, typer.Argument(help="Requests, as headrace cache record writes them; CSV or JSON lines.")
    ],
    page: Annotated[Path, typer.Option(help="Where the page with the plot goes.")] = Path("out/cache.html"),
    mib: Annotated[list[float] | None, typer.Option(help="A size in MiB; may be repeated.")] = None,
    ttl: Annotated[
        list[float] | None, typer.Option(help="A time to live in seconds; may be repeated.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="lru, lfu or headrace; may be repeated. All, unless given.")
    ] = None,
    answer_bytes: Annotated[
        int, typer.Option(min=1, help="Of an answer, where the log does not tell.")
    ] = 2048,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON to this file, too.")
    ] = None,
) -> None:
    """Replay a log of requests: which share of them a cache of each size would have answered."""
    from cache.simulate import POLICIES, read_log, sizes_for
    from cache.simulate import simulate as run
    from deployments.cache_page import as_html, seconds
    from deployments.terminal import bars

    try:
        asked = read_log(log.read_text(encoding="utf-8"), answer_bytes)
    except (OSError, UnicodeDecodeError) as err:
        raise CallerError(f"the log {log.name!r} cannot be read: {err}") from err
    sizes = sorted(int(size * 2**20) for size in mib) if mib else sizes_for(asked)
    ttls, policies = sorted(ttl or [3600.0], reverse=True), policy or list(POLICIES)
    with bars() as progress:
        row = progress.add_task("replaying", total=len(sizes) * len(ttls) * len(policies))
        points = []
        for point in run(asked, sizes, ttls, policies):
            points.append(point)
            progress.update(row, advance=1)
    table = Table("MiB", *(f"{name}, {seconds(ttl_s)}" for name in policies for ttl_s in ttls), title="Hits")
    for size in sizes:
        rates = [f"{point.hit_rate:.1%}" for point in points if point.max_bytes == size]
        table.add_row(_mib(size), *rates)
    console.print(table)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(as_html(points, len(asked), len({entry.key for entry in asked})), encoding="utf-8")
    console.print(f"plot: {page}")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(point) for point in points], indent=2), encoding="utf-8")


@cli.command()
def record(
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("out/requests.csv"),
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 60.0,
    address: Address = "auto",
) -> None:
    """Note each request's key, its answer's bytes and what computing it took, for headrace cache simulate.

    Keys are digests: nothing of what was asked can be read from them. Models without a cache are noted, too.
    """
    from deployments.everyone import ask_all
    from deployments.status import served

    gateways = served(address)
    out.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    end = time.monotonic() + seconds
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("time", "key", "bytes", "seconds"))
        ask_all(gateways, "record", True, timeout_s=_PATIENCE_S)
        try:
            while (left_s := end - time.monotonic()) > 0:
                time.sleep(min(left_s, 1.0))
                for rows in ask_all(gateways, "recorded", timeout_s=_PATIENCE_S):
                    writer.writerows(rows)
                    count += len(rows)
        finally:
            ask_all(gateways, "record", False, timeout_s=_PATIENCE_S)
    console.print(f"{count} requests noted in {out}")


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f}"
