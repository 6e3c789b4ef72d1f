"""A gateway that does as the repository says: the real files, stand-ins for versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments.follower import Follower
from deployments.served import Served
from deployments.traffic import Traffic
from headrace.errors import EngineUnavailable
from rollout import state as states
from rollout.state import FILE, State
from rollout.store import Store
from tests.deployments.test_traffic import PLAN, version


class OneModel:
    """What a follower asks of `deployments.models.Models`."""

    def __init__(self) -> None:
        self.traffic = Traffic("m", [version("1")], 1)
        self.failure: Exception | None = None
        self.gone: list[str] = []
        self.moves: list[str] = []

    def versioned(self) -> dict[str, Traffic]:
        return {"m": self.traffic}

    async def open_candidate(self, name: str, number: str) -> Served:
        if self.failure is not None:
            raise self.failure
        return version(number)

    def let_go(self, traffic: Traffic, served: Served) -> None:
        self.gone.append(served.version)

    def moved(self, traffic: Traffic) -> None:
        self.moves.append(traffic.stable)


class Followed:
    def __init__(self, root: Path) -> None:
        (root / "m").mkdir()
        self.path = root / "m" / FILE
        self.models = OneModel()
        self.store = Store(root)
        self.follower = Follower(self.store, self.models)  # type: ignore[arg-type]

    async def change(self, make: Any, *arguments: Any) -> State:
        state = self.store.change("m", "1", lambda state: make(state, *arguments))
        await self.follower.look()
        await self.follower.ready()
        return state

    def shares(self) -> dict[str, float]:
        return dict(self.models.traffic.split.shares)


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


async def test_a_rollout_is_followed_to_its_end(followed: Followed) -> None:
    await followed.change(states.start, "2", PLAN, "id", 0.0)
    assert followed.shares() == {"1": 1.0}
    await followed.change(states.advance, 1.0, "loaded")
    assert followed.shares() == {"2": 0.25, "1": 0.75}
    await followed.change(states.advance, 2.0, "good")
    assert followed.shares() == {"2": 1.0}
    assert followed.models.gone == []  # it stays warm
    state = await followed.change(states.advance, 3.0, "good")
    assert (followed.models.gone, followed.models.moves) == (["1"], ["2"])
    assert followed.models.traffic.revision == state.revision


async def test_after_a_rollback_the_candidate_is_let_go_of(followed: Followed) -> None:
    await followed.change(states.start, "2", PLAN, "id", 0.0)
    await followed.change(states.advance, 1.0, "loaded")
    await followed.change(states.roll_back, 2.0, "bad")
    assert followed.shares() == {"1": 1.0}
    assert (followed.models.gone, followed.models.moves) == (["2"], [])


async def test_a_version_that_cannot_be_had_changes_nothing_and_is_tried_again(followed: Followed) -> None:
    followed.models.failure = EngineUnavailable("its replicas are not there")
    await followed.change(states.start, "2", PLAN, "id", 0.0)
    await followed.change(states.advance, 1.0, "loaded")
    assert followed.shares() == {"1": 1.0}
    assert followed.models.traffic.problem == "version '2': it is not ready here yet"
    await followed.follower.look()
    assert followed.models.traffic.problem == "version '2': its replicas are not there"
    followed.models.failure = None
    await followed.follower.look()
    await followed.follower.ready()
    assert followed.shares() == {"2": 0.25, "1": 0.75}
    assert followed.models.traffic.problem == ""


async def test_a_damaged_file_leaves_everything_as_it_was(followed: Followed) -> None:
    await followed.change(states.start, "2", PLAN, "id", 0.0)
    await followed.change(states.advance, 1.0, "loaded")
    whole = followed.path.read_bytes()
    followed.path.write_bytes(b"{")
    await followed.follower.look()
    assert followed.shares() == {"2": 0.25, "1": 0.75}
    assert "damaged" in followed.models.traffic.problem
    followed.path.write_bytes(whole)
    await followed.follower.look()
    assert followed.models.traffic.problem == ""
