from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engines.inflight import InFlight
from headrace.errors import EngineFailed, EngineUnavailable

WAIT_S = 10.0


class Log:
    """What happened, in its order, and on which threads."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.threads: set[int] = set()

    def add(self, what: str) -> None:
        self.told.append(what)
        self.threads.add(threading.get_ident())


class Batch:
    """Done when it is told so."""

    def __init__(self, name: str, log: Log, fails_at: str = "") -> None:
        self.name = name
        self.log = log
        self.fails_at = fails_at
        self.may_end = threading.Event()
        self.has_started = threading.Event()

    def start(self) -> None:
        self.log.add(f"start {self.name}")
        self.has_started.set()
        if self.fails_at == "start":
            raise EngineFailed("start")

    def is_done(self) -> bool:
        if self.fails_at == "is_done" and self.may_end.is_set():
            raise EngineFailed("is_done")
        return self.may_end.is_set()

    def finish(self) -> str:
        assert self.may_end.wait(WAIT_S)
        self.log.add(f"finish {self.name}")
        if self.fails_at in ("finish", "is_done"):
            raise EngineFailed(self.fails_at)
        return self.name


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def runner(log: Log) -> Iterator[InFlight[str]]:
    found: InFlight[str] = InFlight(2, lambda: log.add("begin"), lambda: log.add("end"))
    found.start()
    yield found
    found.close()


def test_the_next_one_starts_while_the_first_runs_and_a_third_waits(log: Log, runner: InFlight[str]) -> None:
    batches = [Batch(name, log) for name in "abc"]
    futures = [runner.submit(batch) for batch in batches]
    assert batches[1].has_started.wait(WAIT_S)
    assert not batches[2].has_started.wait(0.05)
    batches[0].may_end.set()
    assert futures[0].result(WAIT_S) == "a"
    assert batches[2].has_started.wait(WAIT_S)
    for batch in batches:
        batch.may_end.set()
    assert [future.result(WAIT_S) for future in futures] == ["a", "b", "c"]
    assert log.told == ["begin", "start a", "start b", "finish a", "start c", "finish b", "finish c"]


def test_one_that_comes_while_another_runs_is_not_kept_waiting_for_it(
    log: Log, runner: InFlight[str]
) -> None:
    first, second = Batch("a", log), Batch("b", log)
    runner.submit(first)
    assert first.has_started.wait(WAIT_S)
    runner.submit(second)
    assert second.has_started.wait(WAIT_S)  # though the first has not ended
    first.may_end.set()
    second.may_end.set()


@pytest.mark.parametrize("at", ["start", "finish", "is_done"])
def test_one_that_fails_fails_alone(log: Log, runner: InFlight[str], at: str) -> None:
    batches = [Batch("a", log), Batch("b", log, at), Batch("c", log)]
    for batch in batches:
        batch.may_end.set()
    futures = [runner.submit(batch) for batch in batches]
    assert futures[0].result(WAIT_S) == "a"
    with pytest.raises(EngineFailed, match=at):
        futures[1].result(WAIT_S)
    assert futures[2].result(WAIT_S) == "c"


def test_a_failure_that_is_seen_while_it_is_looked_for_is_told(log: Log, runner: InFlight[str]) -> None:
    batch = Batch("a", log, "is_done")
    future = runner.submit(batch)
    assert batch.has_started.wait(WAIT_S)
    batch.may_end.set()  # it is looked at, as another one might come
    with pytest.raises(EngineFailed, match="is_done"):
        future.result(WAIT_S)
    other = Batch("b", log)
    other.may_end.set()
    assert runner.submit(other).result(WAIT_S) == "b"


def test_nobody_waits_for_a_thread_that_has_ended(log: Log) -> None:
    runner: InFlight[str] = InFlight(2, lambda: None, lambda: None)
    runner.start()
    batches = [Batch(name, log) for name in "abc"]
    futures = [runner.submit(batch) for batch in batches]
    assert batches[1].has_started.wait(WAIT_S)
    runner._step = lambda: False  # type: ignore[method-assign]  # as if it had ended in disorder
    batches[0].may_end.set()
    assert futures[0].result(WAIT_S) == "a"
    for future in futures[1:]:
        with pytest.raises(EngineFailed, match="thread has ended"):
            future.result(WAIT_S)
    with pytest.raises(EngineUnavailable):
        runner.submit(batches[0])


def test_all_is_done_on_one_thread_and_what_was_submitted_before_its_end(log: Log) -> None:
    runner: InFlight[str] = InFlight(2, lambda: log.add("begin"), lambda: log.add("end"))
    runner.start()
    batches = [Batch(str(number), log) for number in range(5)]
    futures = [runner.submit(batch) for batch in batches]
    for batch in batches:
        batch.may_end.set()
    runner.close()
    assert [future.result(0) for future in futures] == list("01234")
    assert log.told[0] == "begin"
    assert log.told[-1] == "end"
    assert len(log.threads) == 1
    assert threading.get_ident() not in log.threads
    with pytest.raises(EngineUnavailable):
        runner.submit(batches[0])


def test_a_thread_that_cannot_begin_says_why() -> None:
    def begin() -> None:
        raise EngineUnavailable("no GPU")

    runner: InFlight[str] = InFlight(2, begin, lambda: None)
    with pytest.raises(EngineUnavailable, match="no GPU"):
        runner.start()
    runner.close()
