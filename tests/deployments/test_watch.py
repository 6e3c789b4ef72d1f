"""A hung engine is noticed, its callers are answered, and the process ends."""

from __future__ import annotations

import asyncio

from deployments.watch import watch


class Host:
    def __init__(self) -> None:
        self.ran_s: float | None = None
        self.told = ""
        self.is_hung = False
        self.lost = False

    def is_lost(self) -> bool:
        return self.lost

    def hung(self) -> float | None:
        return self.ran_s

    def abandon(self, why: str, *, is_hung: bool) -> None:
        self.told, self.is_hung = why, is_hung


async def test_all_hosts_of_the_process_are_given_up_before_it_ends() -> None:
    well, hung, ended = Host(), Host(), asyncio.Event()
    task = asyncio.create_task(watch([well, hung], end=ended.set))
    hung.ran_s = 9.0
    async with asyncio.timeout(10):
        await ended.wait()
    task.cancel()
    assert "has hung" in hung.told
    assert "has hung" in well.told  # its work may go elsewhere, too
    assert (hung.is_hung, well.is_hung) == (True, False)


async def test_a_failed_gpu_ends_the_process_as_a_hung_engine_does() -> None:
    well, lost, ended = Host(), Host(), asyncio.Event()
    task = asyncio.create_task(watch([well, lost], end=ended.set))
    lost.lost = True
    async with asyncio.timeout(10):
        await ended.wait()
    task.cancel()
    assert well.told == lost.told == "a GPU has failed and its replica is being replaced; try again"
    assert (lost.is_hung, well.is_hung) == (True, False)


async def test_nothing_ends_while_all_is_well() -> None:
    host, ended = Host(), asyncio.Event()
    task = asyncio.create_task(watch([host], end=ended.set))
    await asyncio.sleep(0.6)
    task.cancel()
    assert not ended.is_set()
    assert host.told == ""
