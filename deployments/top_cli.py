"""`headrace top`: the live figures of a server in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from headrace.errors import CallerError, EngineFailed, EngineUnavailable, HeadraceError, NotFound

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

console = Console()
_PATIENCE_S = 10.0
_LEAST_S = 0.2
Figures = dict[str, Any]


def top(
    url: Annotated[str, typer.Option(help="Of the server's HTTP port.")] = "http://127.0.0.1:8000",
    address: Annotated[str | None, typer.Option(help="Ask by handle on this Ray cluster instead.")] = None,
    model: Annotated[str, typer.Option(help="Whose stages are shown; else the one asked most.")] = "",
    every: Annotated[float, typer.Option(min=_LEAST_S, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one screen and end.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the figures as they are and end.")
    ] = False,
) -> None:
    """Watch what a server does: latencies, traffic, stages, batches, processes. q ends it, m goes on to the
    next model's stages."""
    with _asking(url, address) as figures:
        first = figures()
        if json_output:
            print(json.dumps(first, indent=2))
            return
        _check_model(first, model)
        if once or not (console.is_terminal and sys.stdin.isatty()):
            console.print(_drawn(first, model))
            return
        _watch(figures, first, model, every)


def _watch(figures: Callable[[], Figures], told: Figures, model: str, every_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from monitoring.screen import names

    lost = ""
    with _keys() as key, Live(console=console, screen=True, auto_refresh=False) as display:
        while True:
            notes = [Text(lost, style="bold red")] if lost else []
            display.update(Group(*notes, _drawn(told, model)), refresh=True)
            match key(every_s):
                case "q":
                    return
                case "m" if known := names(told):
                    model = known[(known.index(model) + 1) % len(known)] if model in known else known[0]
                    continue
            try:
                told, lost = figures(), ""
            except HeadraceError as err:
                lost = f"as it was: {getattr(err, 'cause', err)}"


@contextmanager
def _asking(url: str, address: str | None) -> Iterator[Callable[[], Figures]]:
    """What gets the document, over HTTP or, where an address is given, by handle."""
    if address is None:
        yield lambda: _over_http(url)
        return
    import ray

    from deployments.status import served

    with redirect_stdout(sys.stderr):  # Ray's driver prints there
        gateways = served(address)
    try:
        yield lambda: _by_handle(gateways)
    finally:
        ray.shutdown()


def _by_handle(gateways: DeploymentHandle) -> Figures:
    try:
        return dict(json.loads(gateways.figures.remote().result(timeout_s=_PATIENCE_S)))
    except HeadraceError:
        raise
    except Exception as err:  # of Ray or Serve, by what has become of the gateways
        raise EngineUnavailable(f"no gateway answers ({type(err).__name__})") from err


def _over_http(url: str) -> Figures:
    from deployments.asking import get

    try:
        return get(url, "/v2/figures", _PATIENCE_S)
    except NotFound as err:
        raise CallerError(f"this server tells no figures: {err}") from err


def _check_model(figures: Figures, model: str) -> None:
    from monitoring.screen import names

    try:
        known = names(figures)
    except (KeyError, TypeError) as err:
        raise _unlike(err) from err
    if model and model not in known:
        raise NotFound(f"no model {model[:64]!r}; served here: {', '.join(known) or 'none'}")


def _drawn(figures: Figures, model: str) -> RenderableType:
    from monitoring.screen import screen

    try:
        return screen(figures, console.width, model)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise _unlike(err) from err


def _unlike(err: Exception) -> EngineFailed:
    return EngineFailed(
        f"the server's figures are not as this release knows them ({type(err).__name__}: {err}); "
        "use the headrace command of the server's own release"
    )


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """What waits for a key, at most so many seconds: the key, or nothing."""
    import select
    import termios
    import tty

    former = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def key(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return sys.stdin.read(1).lower() if ready else ""

    try:
        yield key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, former)
