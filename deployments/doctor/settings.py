"""Variables of the environment that help or hurt. Of secrets only whether they are set is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from deployments.admin import TOKEN
from deployments.doctor.check import Check, bad, ok, unless, warn

_SHORT = 16  # characters of a token
# By these a process that calls handles fails: "no event loop running".
_HURT_DRIVERS = (
    "RAY_SERVE_THROUGHPUT_OPTIMIZED",
    "RAY_SERVE_ENABLE_HA_PROXY",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD",
)


def checks() -> Iterator[Check]:
    yield serve_flags(os.environ)
    yield admission(os.environ, Path.home() / ".ray" / "auth_token")
    yield address(os.environ)
    yield admin_token(os.environ)


def serve_flags(environment: Mapping[str, str]) -> Check:
    found = sorted(name for name in environment if name.startswith("RAY_SERVE_"))
    hurting = [name for name in _HURT_DRIVERS if name in found]
    if not found:
        return ok("Serve's flags", "none here, as it should be")
    told = ", ".join(hurting or found[:1]) + (
        f" and {len(found) - 1} more" if not hurting and found[1:] else ""
    )
    advice = (
        "they are for the shell that starts Ray on a node (headrace flags); a program that calls handles "
        f"fails with them, and headrace serve sets its own: unset {' '.join(found)}"
    )
    return warn("Serve's flags", told, advice)


def admission(environment: Mapping[str, str], left: Path) -> Check:
    """Whether Ray wants a token, and whether this process has one."""
    mode = environment.get("RAY_AUTH_MODE", "")
    named = environment.get("RAY_AUTH_TOKEN_PATH", "")
    has_token = bool(environment.get("RAY_AUTH_TOKEN")) or (Path(named) if named else left).is_file()
    if mode == "token" and not has_token:
        advice = "set RAY_AUTH_TOKEN_PATH to the file that holds the cluster's token, or unset RAY_AUTH_MODE"
        return bad("Ray's token", "wanted by RAY_AUTH_MODE, but there is none", advice)
    if not mode and has_token:
        advice = (
            "Ray wants it from everybody as soon as there is one: for clusters without a token set "
            "RAY_AUTH_MODE=disabled (headrace serve does so for its own), or delete that file"
        )
        return warn("Ray's token", f"left in {left.parent.name}/{left.name} by an earlier use", advice)
    return ok("Ray's token", f"RAY_AUTH_MODE={mode}" if mode else "none wanted")


def address(environment: Mapping[str, str]) -> Check:
    found = environment.get("RAY_ADDRESS")
    return ok("RAY_ADDRESS", f"{found}: commands ask that cluster" if found else "not set")


def admin_token(environment: Mapping[str, str]) -> Check:
    token = environment.get(TOKEN, "")
    if not token:
        return ok(TOKEN, "not set: the admin API lets nobody in")
    advice = (
        "it can be guessed: 16 characters or more, drawn at random, such as those of: openssl rand -hex 32"
    )
    return unless(
        len(token) >= _SHORT, "warn", TOKEN, "set" if len(token) >= _SHORT else "set, but short", advice
    )
