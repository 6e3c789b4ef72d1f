"""The open-loop client keeps to its times, and tells what a closed loop would hide."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
import numpy as np
import pytest
import uvloop

from deployments.load import Load, closed_loop
from deployments.open_loop import OpenLoad, arrivals, open_loop, open_loop_at
from deployments.ports import free_ports
from headrace.errors import EngineUnavailable

REQUEST = b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc"
STALL_S = 1.0


class Echo(asyncio.Protocol):
    """A small real HTTP server; subclasses decide when and what it answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.answer()

    def answer(self, status: str = "200 OK", headers: str = "") -> None:
        self.transport.write(f"HTTP/1.1 {status}\r\n{headers}content-length: 2\r\n\r\nok".encode())


def stalling(after: int) -> Callable[[], Echo]:
    """A server that answers at once, but stands still for a second from its request `after` on."""
    seen = 0
    until = 0.0

    class Stalling(Echo):
        def on_message_complete(self) -> None:
            nonlocal seen, until
            loop = asyncio.get_running_loop()
            seen += 1
            if seen == after:
                until = loop.time() + STALL_S
            loop.call_at(until, self.answer) if loop.time() < until else self.answer()

    return Stalling


def against(kind: Callable[[], Echo], ask: Callable[[int], Awaitable[Any]]) -> Any:
    """What `ask` returns, given the port of a server of this kind in the same loop."""

    async def run() -> Any:
        server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
        async with server:
            return await ask(server.sockets[0].getsockname()[1])

    return uvloop.run(run())


def offered(kind: Callable[[], Echo], count: int, rate: float, **options: Any) -> OpenLoad:
    load = against(kind, lambda port: open_loop("127.0.0.1", port, [REQUEST] * count, rate, **options))
    assert isinstance(load, OpenLoad)
    return load


def test_a_stall_shows_in_the_percentiles() -> None:
    load = offered(stalling(after=100), 400, 200.0)
    assert load.num_failed == 0
    # Of two seconds at this rate one is the stall: half of the requests met it, and waited up to all of it.
    assert load.percentile_ms(25) < 100
    assert load.percentile_ms(75) > 300
    assert 900 < load.percentile_ms(99) < 1500


def test_a_closed_loop_hides_that_stall() -> None:
    def ask(port: int) -> Awaitable[Load]:
        return closed_loop("127.0.0.1", port, [REQUEST] * 400, 4)

    load = against(stalling(after=100), ask)
    assert load.percentile_ms(98) < 100 < load.percentile_ms(99.5)


def test_requests_leave_at_their_times_and_at_the_rate() -> None:
    load = offered(Echo, 400, 1000.0)
    assert load.num_failed == 0
    assert np.array_equal(load.intended, arrivals(400, 1000.0))
    assert (load.left >= load.intended).all()
    assert (load.latency >= load.left - load.intended).all()
    assert load.late_ms(50) < 20
    assert load.per_second == pytest.approx(1000, rel=0.2)


def test_arrivals_are_those_of_a_poisson_process() -> None:
    gaps = np.diff(arrivals(20_000, 100.0))
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as exponential gaps have it
    assert not np.array_equal(arrivals(10, 100.0, seed=1), arrivals(10, 100.0, seed=2))


def test_more_connections_are_opened_up_to_the_bound() -> None:
    made: list[Echo] = []

    class Counted(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            made.append(self)

        def on_message_complete(self) -> None:
            asyncio.get_running_loop().call_later(0.2, self.answer)

    load = offered(Counted, 60, 1000.0, connections=2, max_connections=10)
    assert load.num_failed == 0
    assert len(made) == 10
    assert load.percentile_ms(99) > 1000  # six turns of 0.2 s: waiting for a connection counts


def test_too_many_outstanding_requests_fail_at_once() -> None:
    load = offered(stalling(after=1), 100, 1000.0, max_outstanding=30)
    assert load.num_failed == 70
    assert (load.status[:30] == 200).all()
    waited = load.latency - (load.left - load.intended)
    assert (waited[load.status == 0] < 0.1).all()
    assert (waited[load.status == 200] > 0.1).all()


def test_bad_statuses_and_lost_connections_are_failures_and_the_rest_goes_on() -> None:
    numbers = iter(range(1000))

    class Moody(Echo):
        def on_message_complete(self) -> None:
            number = next(numbers) % 4
            if number == 0:
                self.transport.close()  # without an answer
            elif number == 1:
                self.answer("503 Service Unavailable")
            else:
                self.answer(headers="connection: close\r\n")

    load = offered(Moody, 200, 2000.0, connections=4)
    counts = {status: int((load.status == status).sum()) for status in (0, 503, 200)}
    assert counts == {0: 50, 503: 50, 200: 100}


def test_headers_are_kept_only_when_asked_for() -> None:
    numbers = iter(range(1000))

    class Numbered(Echo):
        def on_message_complete(self) -> None:
            self.answer(headers=f"Number: {next(numbers)}\r\n")

    assert offered(Numbered, 5, 1000.0).headers == []
    load = offered(Numbered, 20, 1000.0, keep_headers=True)
    assert sorted(int(headers["number"]) for headers in load.headers) == list(range(5, 25))


def test_an_answer_that_is_no_http_is_a_failure() -> None:
    class Rude(Echo):
        def on_message_complete(self) -> None:
            self.transport.write(b"hello\r\n")

    assert offered(Rude, 20, 1000.0, connections=2).num_failed == 20


def test_a_silent_server_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Echo):
        def on_message_complete(self) -> None:
            pass

    monkeypatch.setattr("deployments.open_loop.MAX_SILENCE_S", 0.2)
    load = offered(Silent, 20, 1000.0, connections=2, max_connections=20)
    assert load.num_failed == 20


def test_no_requests_are_no_load() -> None:
    load = offered(Echo, 0, 10.0)
    assert (len(load.status), load.per_second, load.num_failed) == (0, 0.0, 0)


def test_nobody_at_the_port_is_said() -> None:
    (port,) = free_ports(1)
    with pytest.raises(EngineUnavailable, match="nothing answers"):
        uvloop.run(open_loop("127.0.0.1", port, [REQUEST], 10.0))


def test_a_request_costs_little_even_with_its_server_in_the_same_process() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    offered(Echo, 4000, 4000.0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert cpu / 4000 < 250e-6  # of which the client is about a half: generous, for busy machines


def test_whoever_watches_hears_of_each_request_as_it_ends() -> None:
    heard: dict[int, tuple[float, int, dict[str, str]]] = {}

    def ended(number: int, latency_s: float, status: int, headers: dict[str, str]) -> None:
        heard[number] = (latency_s, status, headers)

    times = arrivals(50, 500.0)
    load: OpenLoad = against(
        Echo, lambda port: open_loop_at("127.0.0.1", port, [REQUEST] * 50, times, on_end=ended)
    )
    assert sorted(heard) == list(range(50))
    assert [heard[number][0] for number in range(50)] == load.latency.tolist()
    assert all(entry[1:] == (200, {"content-length": "2"}) for entry in heard.values())
    assert load.headers == []
