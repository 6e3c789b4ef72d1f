"""How often keys were asked for of late, in little memory (pure)."""

from __future__ import annotations

_ROWS = 4
_MOST = 15  # more tells nothing: whoever is asked for so often stays
_HALF = bytes(count >> 1 for count in range(256))


class Sketch:
    """A count-min sketch: never too low, and seldom too high as long as some `num_keys` are asked for.

    Eight to sixteen bytes for each key. Counts end at 15, and `halve` lets what was popular long ago fade.
    """

    def __init__(self, num_keys: int) -> None:
        self._mask = (2 << num_keys.bit_length()) - 1
        self._rows = [bytearray(self._mask + 1) for _ in range(_ROWS)]
        self.num_added = 0  # since the last halving

    def add(self, key: bytes) -> None:
        self.num_added += 1
        place, step = self._first(key)
        for row in self._rows:
            if row[place] < _MOST:
                row[place] += 1
            place = (place + step) & self._mask

    def count(self, key: bytes) -> int:
        least = _MOST
        place, step = self._first(key)
        for row in self._rows:
            least = min(least, row[place])
            place = (place + step) & self._mask
        return least

    def halve(self) -> None:
        self._rows = [bytearray(row.translate(_HALF)) for row in self._rows]
        self.num_added = 0

    def _first(self, key: bytes) -> tuple[int, int]:
        mixed = hash(key)  # 64 bits with a seed of this process: nobody can choose keys that collide
        return mixed & self._mask, mixed >> 32 | 1
