"""The admin API over HTTP: what `headrace rollout` does, for whoever has the token."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from typing import Any

import orjson

from deployments.control import Control
from headrace.errors import CallerError, Unauthorized
from protocol import documents

TOKEN = "HEADRACE_ADMIN_TOKEN"  # noqa: S105 - the variable of the environment, not what it holds
BODY_BYTES = 64 << 10
_DEPTH = 8


class Admin:
    """Without a token in the gateway's environment nobody is let in."""

    def __init__(self, control: Control, environment: Mapping[str, str] = os.environ) -> None:
        self._control = control
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
        document: dict[str, Any] = documents.parse(memoryview(body), _DEPTH)
        action = document.pop("action", None)
        if not isinstance(action, str):
            raise CallerError('the body must name what to do, such as {"action": "start", "to": "3"}')
        return orjson.dumps(await self._control.act(action, model, document))
