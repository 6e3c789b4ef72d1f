"""Whether the shared store is worth asking: what it takes against what computing takes (pure)."""

from __future__ import annotations

_WEIGHT = 0.05  # of the newest value in a mean
_KNOWN = 32  # values, before a mean is believed
_PROBES = 64  # of so many questions that are not worth it one is asked all the same, to learn more


class Mean:
    """A mean in which older values fade."""

    def __init__(self) -> None:
        self._num_seen = 0
        self.value = 0.0

    @property
    def is_known(self) -> bool:
        return self._num_seen >= _KNOWN

    def add(self, value: float) -> None:
        self._num_seen += 1
        self.value += max(_WEIGHT, 1 / self._num_seen) * (value - self.value)


class Worth:
    """Of one model's answers: the seconds until one is computed, and until the shared store has given or
    refused one, waiting included in both. Where computing is the quicker, the store need not be asked, nor
    told.
    """

    def __init__(self, is_always: bool = False) -> None:
        self._is_always = is_always
        self.computing = Mean()
        self.fetching = Mean()
        self._num_left_out = 0

    def is_worth_it(self) -> bool:
        if self._is_always or not (self.computing.is_known and self.fetching.is_known):
            return True
        if self.computing.value > self.fetching.value:
            return True
        self._num_left_out += 1
        return self._num_left_out % _PROBES == 0
