"""One model in this gateway: which of its versions are ready here, and which of them answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deployments import overload
from deployments.door import Door
from deployments.served import Served
from headrace.errors import NotFound
from rollout.split import Chooser, Split, whole
from rollout.state import State


class Traffic:
    """Versions that are ready, and the split of requests that name none."""

    def __init__(self, model: str, served: Sequence[Served], gateways: int) -> None:
        """The last one answers; the others are there by their names."""
        self.model = model
        self.ready = {each.version: each for each in served}
        self.named = frozenset(each.version for each in served[:-1])
        self.chooser = Chooser(whole(served[-1].version))
        self.stable = served[-1].version
        self.revision = 0
        self.problem = ""  # why the state in the repository is not followed
        self.leaving: list[Served] = []
        self.door = Door(gateways, self._floor(), self._usual_s)
        self._num_under_way: Counter[int] = Counter()  # requests, by id of what is served
        self._drained: dict[int, asyncio.Event] = {}

    @property
    def split(self) -> Split:
        return self.chooser.split

    @property
    def answering(self) -> Served:
        return self.ready[self.stable]

    def find(self, version: str | None = None) -> Served:
        """A version by its name, else the stable one; NotFound lists what is served."""
        if version is None:
            return self.answering
        if version not in self.ready:
            raise NotFound(
                f"model {self.model!r} has no version {version!r}; served here: {', '.join(self.versions())}"
            )
        return self.ready[version]

    def choose(self, version: str | None, caller: str) -> Served:
        """The version that answers this request."""
        return self.find(self.chooser.version(caller) if version is None else version)

    def cheaper(self, served: Served) -> Served | None:
        """The version that answers what this one refuses; None: none does."""
        return None if served.cheaper is None else self.ready.get(served.cheaper)

    def versions(self) -> list[str]:
        """The stable one last."""
        return [*(version for version in self.ready if version != self.stable), self.stable]

    def door_for(self, version: str | None) -> Door:
        """Requests that name a version come by a path of their own."""
        return self.door if version is None else self.find(version).door

    def turned_away(self, version: str | None, requests: int) -> None:
        """So many were refused on their way here."""
        shares = self.split.shares if version is None else {version: 1.0}
        for name, share in shares.items():
            self.find(name).turned_away(round(share * requests))

    def follow(self, state: State) -> None:
        """Answer by a state all of whose versions are ready."""
        if state.split != self.split:
            self.chooser = Chooser(state.split)
        self.stable = state.stable
        self.revision = state.revision

    @contextmanager
    def using(self, served: Served) -> Iterator[None]:
        """Within the block it is not let go of."""
        self._num_under_way[id(served)] += 1
        try:
            yield
        finally:
            self._num_under_way[id(served)] -= 1
            if not self._num_under_way[id(served)] and id(served) in self._drained:
                self._drained[id(served)].set()

    async def let_go(self, served: Served) -> None:
        """Answer what it was asked, then close it."""
        self.leaving.append(served)
        if self._num_under_way[id(served)]:
            drained = self._drained[id(served)] = asyncio.Event()
            await drained.wait()
            del self._drained[id(served)]
        await served.close()
        self.leaving.remove(served)

    def told(self) -> dict[str, object]:
        """What the monitor is to know."""
        return {
            "revision": self.revision,
            "ready": sorted({*self.ready, *(served.version for served in self.leaving)}),
            "problem": self.problem,
        }

    def _floor(self) -> int:
        cheaper = self.cheaper(self.answering)
        return self.answering.door.floor + (cheaper.door.floor if cheaper else 0)

    def _usual_s(self) -> float:
        """Of the version whose queue grows fastest, and of the cheaper one that helps it."""
        found = max(share * self.find(name).usual_s() for name, share in self.split.shares.items())
        cheaper = self.cheaper(self.answering)
        return found if cheaper is None else overload.usual_s(found, cheaper.usual_s())
