"""The clock: whether the kernel follows one that is right."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from deployments.doctor.check import Check, ok, warn
from monitoring.glyphs import seconds

_UNKNOWN = 5  # TIME_ERROR of ntp_gettime(3)
_MAX_ERROR = 2  # its field, in microseconds, after the two of the time itself


def checks() -> Iterator[Check]:
    yield clock(*_asked())


def clock(state: int | None, max_error_us: int) -> Check:
    """`state` as ntp_gettime(3) returns it; None: it cannot be asked."""
    if state is None:
        return ok("clock", "this system does not tell whether it is in sync")
    if state == _UNKNOWN:
        advice = (
            "nothing sets it, or the host of this container does not tell: on several machines run chrony or "
            "systemd-timesyncd, else ages, rollouts and logs do not agree"
        )
        return warn("clock", "not in sync with NTP, as far as the kernel knows", advice)
    return ok("clock", f"in sync with NTP, within {seconds(max_error_us / 1e6)}")


def _asked() -> tuple[int | None, int]:
    fields = (ctypes.c_long * 16)()
    try:
        state = ctypes.CDLL(None).ntp_gettime(fields)
    except (OSError, AttributeError):
        return None, 0
    return (None if state < 0 else int(state)), int(fields[_MAX_ERROR])
