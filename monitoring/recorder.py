"""What this process did, second by second, for whoever adds up all processes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from headrace.requests import Tier
from headrace.sketch import Sketch, bins_of
from monitoring.slots import Answers, Named, Slot
from monitoring.stages import Spent

KEPT_S = 90  # one that asks anew has the last window to look at
_MOST_PENDING = 4096

# (model, version), tier, rows, saved seconds, seconds of each stage and of the whole
_Answer = tuple[Named, Tier, int, float, Spent, float]


class Seconds:
    """Slots by second. `now` is Unix time, so that the seconds of several processes meet.

    An answer is only put down when it is given; all of a moment are counted together by `tick`, which takes a
    tenth of the time. It is to be called several times a second.
    """

    def __init__(self, kept_s: int = KEPT_S) -> None:
        self._kept_s = kept_s
        self._slots: dict[int, Slot] = {}
        self._pending: list[_Answer] = []
        self._second = 0

    def answered(
        self, named: Named, tier: Tier, rows: int, saved_s: float, spent: Spent, total_s: float
    ) -> None:
        """A caller got an answer `total_s` after the request."""
        self._pending.append((named, tier, rows, saved_s, spent, total_s))
        if len(self._pending) >= _MOST_PENDING:
            self._count()

    def failed(self, named: Named, kind: str, callers: int = 1) -> None:
        """So many callers got an error."""
        if callers:
            self._slot().answers_of(named).errors[kind] += callers

    def ran(
        self,
        group: tuple[str, str, str],
        rows: int,
        useful: int,
        elements: int,
        ran_s: float,
        waited_s: float,
    ) -> None:
        """A batch of a group (model, version, shape) ran; its oldest request had waited."""
        batches = self._slot().batches_of(group)
        batches.count += 1
        batches.rows += rows
        batches.useful += useful
        batches.elements += elements
        batches.engine_s += ran_s
        batches.wait_s += waited_s

    def judged(self, named: Named, right: float) -> None:
        """The truth of an answer was told."""
        quality = self._slot().quality_of(named)
        quality.judged += 1
        quality.right += right

    def compared(self, named: Named, differs: bool, flipped: float) -> None:
        """An answer to a copy was compared with the one that the caller got."""
        quality = self._slot().quality_of(named)
        quality.compared += 1
        quality.differing += differs
        quality.flipped += flipped

    def tick(self, now: float) -> None:
        """Count what was put down since the last time; what comes from now on belongs to this second."""
        if int(now) != self._second:
            self._count()
            self._second = int(now)
            for old in [at for at in self._slots if at < self._second - self._kept_s]:
                del self._slots[old]

    def since(self, second: int, now: float) -> dict[int, Slot]:
        """The slots from `second` on. The running second is not among them: it is not over yet."""
        self.tick(now)
        return {at: slot for at, slot in self._slots.items() if second <= at < self._second}

    def _slot(self) -> Slot:
        slot = self._slots.get(self._second)
        if slot is None:
            slot = self._slots[self._second] = Slot()
        return slot

    def _count(self) -> None:
        pending, self._pending = self._pending, []
        by_version: dict[Named, list[_Answer]] = defaultdict(list)
        for answer in pending:
            by_version[answer[0]].append(answer)
        for named, answers in by_version.items():
            _count(answers, self._slot().answers_of(named))


def _count(answers: list[_Answer], into: Answers) -> None:
    into.rows += sum(answer[2] for answer in answers)
    into.tiers.update(answer[1] for answer in answers)
    into.saved_s += sum(answer[3] for answer in answers)
    spent = np.array([answer[4] for answer in answers])  # (answers, stages)
    into.spent_s = [mine + its for mine, its in zip(into.spent_s, spent.sum(axis=0).tolist(), strict=True)]
    into.latency.merge(Sketch(bins_of(np.array([answer[5] for answer in answers]))))
    for sketch, seconds in zip(into.stages, spent.T, strict=True):
        sketch.merge(Sketch(bins_of(seconds[seconds > 0])))
