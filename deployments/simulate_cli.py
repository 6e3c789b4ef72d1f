"""`headrace simulate`: what a policy would have made of a trace of requests."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from autoscaling.contenders import Settings, make_policy
from autoscaling.outcome import Outcome
from autoscaling.simulate import simulate as run
from autoscaling.starts import Starts
from autoscaling.trace import Trace, read_trace
from headrace.errors import CallerError

console = Console()


def simulate(
    trace: Annotated[
        Path, typer.Option(help="Requests as CSV or JSON lines: time in seconds, ascending, and rows.")
    ],
    config: Annotated[Path | None, typer.Option(help="The configuration to serve by.")] = None,
    model: Annotated[str | None, typer.Option(help="The model of the configuration.")] = None,
    batch_ms: Annotated[
        str, typer.Option(help="ROWS:MS,... of batches, instead of the manifest's: 1:56,8:100")
    ] = "",
    max_batch: Annotated[int | None, typer.Option(min=1, help="Rows of a batch.")] = None,
    gateways: Annotated[int | None, typer.Option(min=1, help="Instead of the configuration's.")] = None,
    min_replicas: Annotated[int | None, typer.Option(help="Likewise.")] = None,
    max_replicas: Annotated[int | None, typer.Option(help="Likewise.")] = None,
    objective_ms: Annotated[float | None, typer.Option(help="Likewise.")] = None,
    timeout_ms: Annotated[
        float | None, typer.Option(min=1, help="Requests later than that are refused.")
    ] = None,
    start_s: Annotated[
        str, typer.Option(help="What a start takes; several numbers with commas are taken in turn.")
    ] = "5",
    cores: Annotated[
        float | None, typer.Option(min=0.1, help="That starts share, each of which needs one.")
    ] = None,
    speed: Annotated[float, typer.Option(min=1e-6, help="So many times as fast.")] = 1.0,
    rate: Annotated[float, typer.Option(min=1e-6, help="So many times as many requests.")] = 1.0,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="headrace, serve (Ray Serve's own) or fixed:N, with settings: serve:target=8,up=0. "
            "May be repeated; headrace and serve, unless given."
        ),
    ] = None,
    page: Annotated[Path, typer.Option(help="Where the page with the plots goes.")] = Path(
        "out/simulate.html"
    ),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON to this file, too.")
    ] = None,
) -> None:
    """Replay a trace of requests: queue, replicas, latency and replica-hours, by policy.

    Nothing is served for it: batches take what was measured when the model was made, or --batch-ms.
    """
    from deployments.autoscale import decides_every_s
    from deployments.simulate_page import as_html, rows_of
    from deployments.simulated import by_hand, configured, parse_batches, parse_seconds

    given = {"min_replicas": min_replicas, "max_replicas": max_replicas, "objective_ms": objective_ms}
    changes = _known(
        max_batch=max_batch, gateways=gateways, timeout_s=None if timeout_ms is None else timeout_ms / 1000
    )
    batches = parse_batches(batch_ms) if batch_ms else ()
    if config is not None:
        subject = configured(config, model, batches, given, changes)
    elif batches:
        subject = by_hand(batches, given, changes)
    else:
        raise CallerError("which model? give --config and --model, or its batches: --batch-ms 1:56,8:100")
    starts = Starts(parse_seconds(start_s), math.inf if cores is None else cores)
    every_s = decides_every_s(subject.goals.max_replicas)
    settings = Settings(subject.goals, subject.served.cost(), starts.usual_s, every_s)
    policies = [(text, make_policy(text, settings)) for text in policy or ("headrace", "serve")]
    replayed = _read(trace).scaled(speed, rate)
    outcomes = [run(replayed, subject.served, starts, subject.goals, each, text) for text, each in policies]
    shown = Table("", *(outcome.policy for outcome in outcomes), title=_title(replayed))
    for row in rows_of(outcomes):
        shown.add_row(*row)
    console.print(shown)
    lead = (
        f"{_title(replayed)} for {subject.name}, replayed with up to {subject.goals.max_replicas} replicas."
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(as_html(outcomes, lead), encoding="utf-8")
    console.print(f"plots: {page}")
    if json_file is not None:
        json_file.write_text(json.dumps(_told(outcomes)), encoding="utf-8")


def _read(path: Path) -> Trace:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise CallerError(f"the trace {path.name!r} cannot be read: {err}") from err
    return read_trace(text)


def _title(trace: Trace) -> str:
    return f"{len(trace.times):,} requests in {trace.seconds:,.0f} s"


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _told(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Plain data; what is not known is null."""
    return [
        {
            "policy": outcome.policy,
            **{name: _number(value) for name, value in outcome.figures().items()},
            "seconds": [
                {name: _number(value) for name, value in asdict(second).items()} for second in outcome.seconds
            ],
        }
        for outcome in outcomes
    ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
