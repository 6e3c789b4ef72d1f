"""The admin API over HTTP: what `headrace rollout` and `cache purge` do, for whoever has the token."""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from deployments.control import Control
from headrace.errors import CallerError, Unauthorized
from protocol import documents

TOKEN = "HEADRACE_ADMIN_TOKEN"  # noqa: S105 - the variable of the environment, not what it holds
BODY_BYTES = 64 << 10
_DEPTH = 8

Purge = Callable[[str], Awaitable[int | None]]  # the model's answers forgotten; None: nobody has counted them


class Admin:
    """Without a token in the gateway's environment nobody is let in."""

    def __init__(self, control: Control, purge: Purge, environment: Mapping[str, str] = os.environ) -> None:
        self._control = control
        self._purge = purge
        self._token = environment.get(TOKEN, "")

    def check(self, authorization: str | None) -> None:
        """Unauthorized, in the same words whatever is wrong."""
        scheme, _, token = (authorization or "").partition(" ")
        is_right = hmac.compare_digest(token.strip().encode(), self._token.encode())
        if not (is_right and self._token and scheme.lower() == "bearer"):
            raise Unauthorized("this takes the admin token: send it as Authorization: Bearer TOKEN")

    async def read(self, model: str, what: str) -> bytes:
        """`status` or `history`."""
        return orjson.dumps(await self._control.act(what, model, {}))

    async def write(self, model: str, body: bytes) -> bytes:
        """The state after the action that the body names: {"action": "start", "to": "3", ...}."""
        action, document = _action(body, '{"action": "start", "to": "3"}')
        return orjson.dumps(await self._control.act(action, model, document))

    async def forget(self, model: str, body: bytes) -> bytes:
        """{"action": "purge"}: no gateway remembers an answer of the model any more. How many were in the
        shared cache, or null where there is none."""
        action, document = _action(body, '{"action": "purge"}')
        if action != "purge" or document:
            raise CallerError('of a cache can be asked: {"action": "purge"}')
        return orjson.dumps({"model": model, "forgotten": await self._purge(model)})


def _action(body: bytes, example: str) -> tuple[str, dict[str, Any]]:
    document: dict[str, Any] = documents.parse(memoryview(body), _DEPTH)
    action = document.pop("action", None)
    if not isinstance(action, str):
        raise CallerError(f"the body must name what to do, such as {example}")
    return action, document
