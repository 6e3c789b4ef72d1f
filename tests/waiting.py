"""Until something has come about that takes its time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.processes import headrace


def wait_until(
    is_so: Callable[[], bool],
    what: str,
    timeout_s: float = 60,
    ignored: tuple[type[Exception], ...] = (),
) -> float:
    """The seconds that it took; what is raised and ignored means not yet."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        try:
            if is_so():
                return time.monotonic() - began
        except ignored:
            pass
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:g} s in vain: {what}")


def settled(ray_address: str) -> dict[str, Any]:
    """What headrace status tells once nothing is wrong: the monitor is started last, and not waited for."""
    told: dict[str, Any] = {}

    def is_well() -> bool:
        done = headrace("status", "--address", ray_address, "--json")
        assert done.returncode == 0, done.stderr
        told.update(json.loads(done.stdout))
        return not told["problems"]

    try:
        wait_until(is_well, "a server without problems")
    except AssertionError as err:
        raise AssertionError(f"{err}; they are {told['problems']}") from err
    return told
