"""Figures as text for a terminal: bars, curves and numbers of a few characters (pure)."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
NOTHING = "-"


def bar(share: float, width: int) -> str:
    """`share` (0 to 1) of `width` characters, to an eighth of one; what is not zero shows."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def curve(values: Sequence[float | None], width: int) -> str:
    """The last `width` values as blocks from 0 to the largest; a gap where nothing is known."""
    shown = list(values)[-width:]
    largest = max((value for value in shown if value is not None), default=0.0)
    return "".join(_block(value, largest) for value in shown).rjust(width)


def seconds(value: float | None) -> str:
    """Three digits and a unit: 870 us, 4.21 ms, 1.5 s."""
    if value is None:
        return NOTHING
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{_three(value * factor)} {unit}"
    return f"{_three(value)} s"


def rate(value: float | None) -> str:
    """Three digits, or whole thousands."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 1000 else _three(value)


def percent(value: float | None) -> str:
    """A share as percent, a tenth of one where that is small."""
    if value is None:
        return NOTHING
    return f"{100 * value:.0f}%" if value == 0 or value >= 0.1 else f"{100 * value:.2g}%"


def size(num_bytes: float) -> str:
    """Bytes in the largest unit of which there is one."""
    power = 0
    while num_bytes >= 1024 and power < len(_UNITS) - 1:
        num_bytes /= 1024
        power += 1
    return f"{num_bytes:.0f} B" if power == 0 else f"{_three(num_bytes)} {_UNITS[power]}"


def _block(value: float | None, largest: float) -> str:
    if value is None:
        return " "
    return _HEIGHTS[min(7, int(value / largest * 8))] if largest > 0 else _HEIGHTS[0]


def _three(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
