"""`headrace doctor`: whether this machine is ready, and what to do about what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from deployments.doctor.check import Check

console = Console()
_MARKS = {"ok": ("ok", "green"), "warn": ("!", "yellow"), "bad": ("!!", "bold red")}
_NAME = 24  # characters


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="What is to be served: its ports, models, cache are looked at, too.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine, and what a configuration asks of it, and say how to mend what is found.

    !! will not work, ! works worse than it could. Exit status 1 where something will not work.
    """
    from deployments.doctor.everything import checks
    from headrace.config import load_config

    asked = None if config is None else load_config(config)
    found: list[tuple[str, Check]] = []
    for group, results in checks(asked):
        if not json_output:
            _tell(group, results)
        found += [(group, result) for result in results]
    num_bad = sum(result.state == "bad" for _, result in found)
    if json_output:
        print(json.dumps([{"group": group, **asdict(result)} for group, result in found], indent=2))
    else:
        num_warned = sum(result.state == "warn" for _, result in found)
        console.print(_summary(num_bad, num_warned), highlight=False)
    raise typer.Exit(1 if num_bad else 0)


def _tell(group: str, results: list[Check]) -> None:
    console.print(Text(group, style="bold"))
    for result in results:
        mark, style = _MARKS[result.state]
        line = Text.assemble((f"  {mark:<3}", style), f"{result.name:<{_NAME}} ", result.found)
        console.print(line, soft_wrap=True)
        if result.state != "ok":
            console.print(Text(f"     {result.advice}", style="italic"), soft_wrap=True)


def _summary(num_bad: int, num_warned: int) -> str:
    if not num_bad and not num_warned:
        return "all is well"
    worse = f"{num_warned} thing{'' if num_warned == 1 else 's'} could be better"
    if not num_bad:
        return worse
    return f"{num_bad} thing{'' if num_bad == 1 else 's'} will not work" + (
        f", {worse}" if num_warned else ""
    )
