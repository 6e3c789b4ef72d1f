"""What the demo measured, and how its figures are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One way to serve, as its callers saw it. Times in milliseconds, sizes in bytes."""

    name: str
    size_bytes: int
    accuracy: float
    rows_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_batch: float
    cache_hit_rate: float
    errors: int


@dataclass(frozen=True, slots=True)
class Result:
    baseline: Row
    served: Row
    handle_calls: int
    handle_errors: int
    handle_rows_per_s: float
    handle_equal: int  # answers by handle that equal those over HTTP bit by bit
    hits: int
    hits_unlike_fresh: int  # must be 0: answers from the cache that differ from the computed one

    @property
    def is_good(self) -> bool:
        failed = self.baseline.errors + self.served.errors + self.handle_errors + self.hits_unlike_fresh
        return failed == 0 and self.hits > 0


_FIGURES: list[tuple[str, str, Callable[[Any], str]]] = [
    ("size", "size_bytes", lambda value: f"{value / 1e6:.1f} MB"),
    ("accuracy, labelled texts", "accuracy", lambda value: f"{value:.4f}"),
    ("rows/s", "rows_per_s", lambda value: f"{value:.0f}"),
    ("P50", "p50_ms", lambda value: f"{value:.1f} ms"),
    ("P95", "p95_ms", lambda value: f"{value:.1f} ms"),
    ("P99", "p99_ms", lambda value: f"{value:.1f} ms"),
    ("mean batch", "mean_batch", lambda value: f"{value:.1f} rows"),
    ("cache hit rate", "cache_hit_rate", lambda value: f"{value:.1%}"),
    ("errors", "errors", str),
]


def compared(before: Row, after: Row) -> list[tuple[str, str, str]]:
    """Name, before and after of each figure, as text."""
    return [(name, form(getattr(before, key)), form(getattr(after, key))) for name, key, form in _FIGURES]
