"""One model in this gateway: which of its versions are ready here, and which of them answers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from deployments.door import Door
from deployments.served import Served
from headrace.errors import HeadraceError, NotFound
from rollout.split import Chooser, Split, whole
from rollout.state import State
from rollout.store import Stamp, Store

_log = logging.getLogger(__name__)

LOOK_S = 0.25  # between two looks at the repository; whoever changes something tells us besides


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
        self.door = Door(gateways, served[-1].door.floor, self._usual_s)
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

    def _usual_s(self) -> float:
        """Of the version whose queue grows fastest."""
        return max(share * self.find(name).usual_s() for name, share in self.split.shares.items())


class Follower:
    """Keeps a gateway's traffic as the repository says: a file that is there for whoever starts later."""

    def __init__(
        self,
        store: Store,
        traffics: Mapping[str, Traffic],
        open_: Callable[[str, str], Awaitable[Served]],
        moved: Callable[[Traffic], None],
        let_go: Callable[[Traffic, Served], None],
    ) -> None:
        """`open_` makes a version ready, `moved` is told when another one is the stable one, `let_go` of
        those that are not wanted any more."""
        self._store = store
        self._traffics = traffics
        self._open = open_
        self._moved = moved
        self._let_go = let_go
        self._stamps: dict[str, Stamp | None] = {}
        self._looking = asyncio.Lock()

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Follow what has changed, and what could not be followed so far."""
        async with self._looking:
            stamps = await asyncio.to_thread(
                lambda: {name: self._store.stamp(name) for name in self._traffics}
            )
            for name, traffic in self._traffics.items():
                if stamps[name] == self._stamps.get(name) and not traffic.problem:
                    continue
                try:
                    state = await asyncio.to_thread(self._store.read, name)
                    if state is not None:
                        await self._follow(traffic, state)
                    self._stamps[name], traffic.problem = stamps[name], ""
                except Exception as err:
                    told = str(err) if isinstance(err, HeadraceError) else type(err).__name__
                    if told != traffic.problem:
                        _log.warning(f"model {name!r} is answered as before: {told}", exc_info=err)
                    traffic.problem = told

    async def _follow(self, traffic: Traffic, state: State) -> None:
        split = state.split
        copied = [] if split.shadow is None else [split.shadow[0]]
        for version in dict.fromkeys([state.stable, *split.shares, *copied]):
            if version not in traffic.ready:
                traffic.ready[version] = await self._open(traffic.model, version)
        is_other = state.stable != traffic.stable
        traffic.follow(state)
        for version in traffic.ready.keys() - {*state.versions, *traffic.named}:
            self._let_go(traffic, traffic.ready.pop(version))
        if is_other:
            self._moved(traffic)
