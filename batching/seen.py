"""The sizes that requests had, counted within bounds (pure)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from batching.shapes import Sizes

_DISTINCT = 4096


class SizesSeen:
    """Counts rows by their sizes. When more distinct ones come than are kept, all counts are halved and
    those that fall to nothing are forgotten, so that what is frequent stays and what is old fades."""

    def __init__(self, distinct: int = _DISTINCT) -> None:
        self._distinct = distinct
        self._counts: Counter[tuple[tuple[str, int], ...]] = Counter()

    def count(self, sizes: Sizes) -> None:
        key = tuple(pair for pair in sizes.items() if pair[0] != "batch")
        self._counts[key] += sizes.get("batch", 1)
        if len(self._counts) > self._distinct:
            self._halve()

    def told(self) -> list[dict[str, Any]]:
        """The sizes with their counts, the most frequent first."""
        return [{"sizes": dict(key), "count": count} for key, count in self._counts.most_common()]

    def _halve(self) -> None:
        while len(self._counts) > self._distinct:
            halved = {key: count // 2 for key, count in self._counts.items()}
            self._counts = Counter({key: count for key, count in halved.items() if count})


def merged(lists: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What several have seen, as one list, the most frequent first."""
    counts: Counter[tuple[tuple[str, int], ...]] = Counter()
    for told in lists:
        for entry in told:
            counts[tuple(entry["sizes"].items())] += entry["count"]
    return [{"sizes": dict(key), "count": count} for key, count in counts.most_common()]
