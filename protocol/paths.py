"""Method and path -> what is asked of the server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

from headrace.config import check_name
from headrace.errors import MethodNotAllowed, NotFound
from protocol.limits import shown

Kind = Literal[
    "server",
    "live",
    "ready",
    "model",
    "model_ready",
    "infer",
    "feedback",
    "rollout",
    "history",
    "cache",
    "figures",
    "page",
    "events",
    "report",
]

_FIXED: dict[str, Kind] = {
    "/v2": "server",
    "/v2/health/live": "live",
    "/v2/health/ready": "ready",
    "/v2/figures": "figures",
    "/dashboard": "page",
    "/dashboard/events": "events",
}
_ACTIONS: dict[tuple[str, ...], Kind] = {(): "model", ("ready",): "model_ready", ("infer",): "infer"}
_METHODS: dict[Kind, tuple[str, ...]] = {  # others: GET
    "infer": ("POST",),
    "feedback": ("POST",),
    "rollout": ("GET", "POST"),
    "cache": ("POST",),
}
_ADMIN: dict[tuple[str, ...], Kind] = {
    ("rollout",): "rollout",
    ("rollout", "history"): "history",
    ("cache",): "cache",
}
_KNOWN = (
    "/v2, /v2/health/live, /v2/health/ready, /v2/figures, /v2/models/NAME[/versions/VERSION], "
    "that with /ready or /infer, /v2/models/NAME/feedback, and /dashboard"
)


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for; `model` is empty for the server's own paths, `version` None when unnamed. `file`
    is one of the live page, which itself has no name."""

    kind: Kind
    model: str = ""
    version: str | None = None
    file: str = ""


def parse_path(method: str, path: str) -> Route:
    """The route of a path as it came over the wire (still percent-encoded, no query string).

    Names are decoded once and must be names that a model can have, so that none can walk a file
    system. NotFound for any other path, MethodNotAllowed for a known path with a wrong method.
    """
    route = _route(path)
    wanted = _METHODS.get(route.kind, ("GET",))
    if method not in wanted:
        raise MethodNotAllowed(f"{shown(path)} takes {' or '.join(wanted)}; got {shown(method)}")
    return route


@lru_cache(maxsize=1024)  # few are asked for again and again; what is refused is not kept
def _route(path: str) -> Route:
    plain = path.removesuffix("/")
    if kind := _FIXED.get(plain):
        return Route(kind)
    match plain.split("/"):
        case ["", "v2", "models", model, "feedback"]:
            return Route("feedback", _name("model", model))
        case ["", "v2", "models", model, "versions", version, *action] if tuple(action) in _ACTIONS:
            return Route(_ACTIONS[tuple(action)], _name("model", model), _name("version", version))
        case ["", "v2", "models", model, *action] if tuple(action) in _ACTIONS:
            return Route(_ACTIONS[tuple(action)], _name("model", model))
        case ["", "v2", "admin", "models", model, *action] if tuple(action) in _ADMIN:
            return Route(_ADMIN[tuple(action)], _name("model", model))
        case ["", "dashboard", file]:
            return Route("page", file=_name("file", file))
        case ["", "dashboard", "reports", model, version]:
            return Route("report", _name("model", model), _name("version", version))
    raise NotFound(f"no such path {shown(path)}; known are {_KNOWN}")


def _name(what: str, quoted: str) -> str:
    try:
        return check_name(unquote(quoted, errors="strict"))
    except ValueError as err:  # a UnicodeDecodeError is one, too
        raise NotFound(f"no {what} {shown(quoted)}: a name has 1 to 64 of A-Z a-z 0-9 _ . -") from err
