"""A load on a server from a process of its own, so that whoever draws its figures delays no request."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import uvloop

from deployments.bench_inputs import Requests
from deployments.load import Reply, closed_for
from deployments.open_loop import arrivals, open_loop_at
from headrace.errors import CallerError, EngineFailed, HeadraceError
from headrace.sketch import Sketch
from rollout.evidence import Slot

_TELL_S = 0.25
_WIDTHS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_OK = 200
_FROM_CACHE = ("memory", "redis")


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate` requests per second at random times (open loop), or, where it is 0, as many at a time as there
    are `clients` (closed loop)."""

    host: str
    port: int
    clients: int
    rate: float
    seconds: float
    warm_up_s: float
    seed: int

    @property
    def window_s(self) -> float:
        """At least 100 of them make a run, as far as they are not shorter than requests: comparing wants
        many."""
        return max((width for width in _WIDTHS_S if 100 * width <= self.seconds), default=_WIDTHS_S[0])

    @property
    def num_windows(self) -> int:
        return max(1, round(self.seconds / self.window_s))


@dataclass(slots=True)
class Seen:
    """What was answered, of the requests that were sent (or to be sent) after the warm-up."""

    windows: dict[int, Slot] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    late: Sketch = field(default_factory=Sketch)  # seconds by which the client sent later than it was to

    def note(self, plan: Plan, sent_s: float, reply: Reply) -> None:
        number = math.floor((sent_s - plan.warm_up_s) / plan.window_s)
        if not 0 <= number < plan.num_windows:
            return
        slot = self.windows.setdefault(number, Slot())
        slot.requests += 1
        self.statuses[reply.status] += 1
        if reply.status != _OK:
            slot.errors += 1
            return
        slot.latency.add(reply.seconds)
        slot.hits += reply.headers.get("headrace-cache") in _FROM_CACHE

    def add(self, other: Seen) -> None:
        for number, slot in other.windows.items():
            self.windows.setdefault(number, Slot()).add(slot)
        self.statuses.update(other.statuses)
        self.late.merge(other.late)


def drive(plan: Plan, requests: Requests, on_told: Callable[[float, Seen], None]) -> Seen:
    """Run the load to its end. `on_told` gets the seconds since the start of the warm-up and all seen so far,
    a few times a second."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(plan, requests, sender), daemon=True)
    child.start()
    sender.close()
    seen = Seen()
    try:
        while (told := receiver.recv()) is not None:
            if isinstance(told, str):
                raise CallerError(told)
            elapsed_s, new = told
            seen.add(new)
            on_told(elapsed_s, seen)
    except EOFError as err:
        raise EngineFailed("the process that made the requests died; is there enough memory?") from err
    finally:
        child.terminate()
        child.join()
        receiver.close()
    return seen


def _child(plan: Plan, requests: Requests, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it
    try:
        uvloop.run(_load(plan, requests, sender))
        sender.send(None)
    except HeadraceError as err:
        sender.send(str(err))
    except BrokenPipeError:
        return  # nobody wants to know any more


async def _load(plan: Plan, requests: Requests, sender: Connection) -> None:
    requests.made(0)  # drawing random numbers is not to delay the first ones
    teller = _Teller(plan, sender)
    total_s = plan.warm_up_s + plan.seconds
    if not plan.rate:
        await closed_for(plan.host, plan.port, requests.stream(), plan.clients, total_s, teller.note)
        teller.tell()
        return
    times = arrivals(math.ceil(total_s * plan.rate * 1.2) + 100, plan.rate, plan.seed)
    times = times[times < total_s]
    sent: list[float] = times.tolist()  # single elements of arrays cost more

    def ended(number: int, latency_s: float, status: int, headers: dict[str, str]) -> None:
        teller.note(sent[number], Reply(status, latency_s, headers, b""))

    asked = requests.first(len(times))
    load = await open_loop_at(plan.host, plan.port, asked, times, connections=plan.clients, on_end=ended)
    for late_s in (load.left - load.intended)[load.intended >= plan.warm_up_s].tolist():
        teller.seen.late.add(late_s)
    teller.tell()


class _Teller:
    """Adds up what is seen and sends it on from time to time."""

    def __init__(self, plan: Plan, sender: Connection) -> None:
        self._plan = plan
        self._sender = sender
        self._started = self._told = time.perf_counter()
        self.seen = Seen()

    def note(self, sent_s: float, reply: Reply) -> None:
        self.seen.note(self._plan, sent_s, reply)
        if time.perf_counter() - self._told >= _TELL_S:
            self.tell()

    def tell(self) -> None:
        self._told = time.perf_counter()
        self._sender.send((self._told - self._started, self.seen))
        self.seen = Seen()
