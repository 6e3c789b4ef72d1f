"""How many replicas each application has, as Serve last told this process.

It is a module of its own because Serve ships routers by value: what their module holds is a copy.
"""

from __future__ import annotations

_CALLS = 2  # under way for each replica: one runs, one is next
_running: dict[str, int] = {}


def note(application: str, replicas: int) -> None:
    _running[application] = replicas


def max_calls(application: str) -> int:
    """The calls from this process that are worth having under way. While an application sleeps that is one,
    which wakes it."""
    return max(1, _CALLS * _running.get(application, 0))
