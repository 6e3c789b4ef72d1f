"""Rollouts under a constant load on the real server: good versions, bad ones, processes killed, rollbacks.

    python -m benchmarks.rollout [--quick] [--only PART] --json FILE

The versions are those of `benchmarks.digit_versions`, each on a replica of its own behind two gateways.
Requests leave at a constant mean rate from an open-loop client, whatever becomes of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import baselines
from benchmarks.figures import Figure, arguments, finish
from benchmarks.live_rollout import (
    Sent,
    act,
    answered_by,
    digits_server,
    gets,
    is_done,
    keep_sending,
    kill,
    send,
    watch,
)
from deployments.open_loop import OpenLoad
from deployments.serving import Server
from headrace.tensors import Array
from rollout.state import Event, State

UNCHANGED = 50  # checks
RATE = 100.0  # requests a second: half of what a replica can do
PARTS = ("good", "bad", "kills", "back", "baseline")
_PLAN: Mapping[str, Any] = {"interval_s": 3, "min_sample": 40, "soak_s": 3}
_KILLED = {
    "monitor": "ServeReplica:headrace-monitor",
    "gateway": "ServeReplica:headrace:Gateway",
    "controller": "ServeController",
}
_GATEWAYS = 2


def main() -> int:
    options = arguments(__doc__, PARTS)
    parts = options.only or PARTS
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if set(parts) - {"baseline"}:
            with digits_server(Path(folder)) as server:
                send(server, RATE, 5).result()  # the first requests find cold processes
                for part in parts:
                    if part != "baseline":
                        found, details[part] = _RUN[part](server, options.quick)
                        figures += found
        if "baseline" in parts:
            repository = baselines.publish_builds(Path(folder) / "builds")
            unchanged = baselines.checks(repository, baselines.COPY, 2 if options.quick else UNCHANGED)
            slowed = baselines.checks(repository, baselines.SLOWED, 2 if options.quick else 10)
            figures += baselines.figures(unchanged, slowed)
    return finish(figures, options.json, details)


def good(server: Server, quick: bool) -> tuple[list[Figure], Any]:
    """A version that is as good takes over, again and again."""
    count = 2 if quick else 20
    quiet: list[OpenLoad] = []
    during: list[OpenLoad] = []
    seconds: list[float] = []
    for number in range(count):
        quiet.append(send(server, RATE, 6, seed=2 * number).result())
        sent = keep_sending(server, RATE, seed=2 * number + 1)
        _start(_other(), steps=[5, 25, 50, 100])
        seen = watch(server, 90, is_done)
        seconds.append(seen[-1][0] - seen[0][0])
        during.append(sent.result())
        ended = seen[-1][1].history[-1]
        print(f"{number + 1}: {ended.what} after {seconds[-1]:.1f} s, {_words(during[-1])}", flush=True)
        if seen[-1][1].rollout is not None:
            print(f"  it did not end: {act('status')['seen']}")
            act("rollback")
    finished = [event for event in act("history")["events"] if event["what"] == "finished"]
    ratio = _p99(during) / _p99(quiet)
    return [
        Figure("good rollouts that ended with the new version, of all", len(finished) / count, "", ">= 1"),
        Figure("good rollouts: failed requests", _failed([*quiet, *during]), "requests", "<= 0"),
        Figure("good rollouts: P99 during / without", ratio, "", "<= 1.2"),
        Figure("good rollouts: P99 without", _p99(quiet), "ms"),
        Figure("good rollouts: P50 during / without", _p50(during) / _p50(quiet), ""),
        Figure("good rollouts: from start to end, median", median(seconds), "s"),
    ], {"p99_ms": [[_p99([a]), _p99([b])] for a, b in zip(quiet, during, strict=True)]}


def bad(server: Server, quick: bool) -> tuple[list[Figure], Any]:
    """Versions that fail, are slow, or answer wrongly: with callers' requests, and in shadow."""
    figures: list[Figure] = []
    share, sample = 0.1, 200
    for version in ("fails", "slow"):
        sent = keep_sending(server, RATE)
        _start(version, steps=[100 * share, 100], min_sample=sample)
        seen = watch(server, 80, is_done)
        load = sent.result()
        candidate = _times(load, sent.began, ("candidate", "fallback"))
        ended = seen[-1][1].history[-1]
        print(f"{version}: {ended.what} at {len(candidate)} requests: {ended.why}; {_words(load)}")
        late = _at(ended) - candidate[sample - 1] if len(candidate) >= sample else 0.0
        exposure = _exposure(load, sent, seen, share)
        figures += [
            Figure(f"{version}: rolled back", float(ended.what == "rolled_back"), "", ">= 1"),
            Figure(f"{version}: rolled back after its minimum sample", late, "s", "<= 30"),
            Figure(f"{version}: its requests / the canary's share", exposure, "", "<= 1"),
            Figure(f"{version}: requests that it got", len(candidate), "requests"),
            Figure(f"{version}: failed requests of callers", load.num_failed, "requests"),
        ]
    sent = keep_sending(server, RATE)
    copied = 300
    _start("flips", steps=[10, 100], shadow=50.0, guards=["drift<=0.01"], min_sample=copied)
    seen = watch(server, 90, is_done)
    load = sent.result()
    ended = seen[-1][1].history[-1]
    began = next(at for at, state in seen if state.rollout and state.rollout.phase == "shadow")
    sampled = began + copied / (RATE * 0.5)
    exposed = len(load.status) - answered_by(load).get("", 0)
    print(f"flips: {ended.what}: {ended.why}; {dict(ended.figures)}; {_words(load)}")
    return [
        *figures,
        Figure("flips: rolled back", float(ended.what == "rolled_back"), "", ">= 1"),
        Figure(
            "flips: rolled back after its minimum sample of copies",
            max(0.0, _at(ended) - sampled),
            "s",
            "<= 30",
        ),
        Figure("flips: answers that callers got of it", exposed, "requests", "<= 0"),
        Figure("flips: failed requests of callers", load.num_failed, "requests"),
    ], None


def kills(server: Server, quick: bool) -> tuple[list[Figure], Any]:
    """What drives a rollout is killed in its middle."""
    figures = []
    for name, title in _KILLED.items():
        sent = keep_sending(server, RATE)
        other, stable = _other(), act("status")["stable"]
        _start(other, steps=[20, 60, 100])
        _reach(server, other, 0.2)
        kill(title)
        seen = watch(server, 90, is_done)
        load = sent.result()
        versions = {state.stable for _, state in seen}
        kept = all({stable, other} & state.split.shares.keys() for _, state in seen)
        print(f"{name} killed: {seen[-1][1].history[-1].what}, {_words(load)}")
        figures += [
            Figure(f"{name} killed: failed requests", load.num_failed, "requests", "<= 0"),
            Figure(
                f"{name} killed: goes on, the stable version never lost",
                float(kept and versions <= {stable, other} and seen[-1][1].stable == other),
                "",
                ">= 1",
            ),
        ]
    return figures, None


def back(server: Server, quick: bool) -> tuple[list[Figure], Any]:
    """From the command to the last request that the candidate got by any gateway."""
    late: list[float] = []
    for number in range(2 if quick else 10):
        other = _other()
        _start(other, steps=[50, 100], min_sample=1_000_000, guards=[])
        _reach(server, other, 0.5)
        sent = send(server, RATE, 4, seed=number)
        time.sleep(2)
        asked = time.time()
        act("rollback")
        load = sent.result()
        late.append(max(_times(load, sent.began, ("candidate", "fallback"))) - asked)
        time.sleep(3)  # its application ends
    return [Figure("rollback in force on all gateways, slowest of all", max(0.0, *late), "s", "<= 1")], late


_RUN = {"good": good, "bad": bad, "kills": kills, "back": back}


def _other() -> str:
    return "2" if act("status")["stable"] == "1" else "1"


def _start(version: str, **plan: Any) -> None:
    act("start", to=version, **{**_PLAN, **plan})


def _reach(server: Server, version: str, share: float) -> None:
    watch(server, 40, gets(version, share))


def _times(load: OpenLoad, began: float, kinds: Sequence[str]) -> Array:
    """When the requests that such versions answered were to leave, as Unix time."""
    is_so = np.array([header.get("headrace-variant", "") in kinds for header in load.headers])
    return np.sort(load.intended[is_so]) + began


def _exposure(load: OpenLoad, sent: Sent, seen: Sequence[tuple[float, State]], share: float) -> float:
    """The candidate's part of the requests of its first step, over its share; one request for each gateway is
    left out, since shares of few requests are rounded."""
    since = next(at for at, state in seen if share in state.split.shares.values())
    until = seen[-1][0]
    left = load.intended + sent.began
    num_all = int(((left >= since - 0.5) & (left <= until)).sum())
    exposed = len(_times(load, sent.began, ("candidate", "fallback")))
    return max(0.0, (exposed - _GATEWAYS) / (share * num_all))


def _at(event: Event) -> float:
    return datetime.fromisoformat(event.at).timestamp()


def _pooled(loads: Sequence[OpenLoad]) -> Array:
    return np.concatenate([load.latency[load.status == 200] for load in loads])


def _p99(loads: Sequence[OpenLoad]) -> float:
    return float(np.percentile(_pooled(loads), 99)) * 1000


def _p50(loads: Sequence[OpenLoad]) -> float:
    return float(np.percentile(_pooled(loads), 50)) * 1000


def _failed(loads: Sequence[OpenLoad]) -> int:
    return sum(load.num_failed for load in loads)


def _words(load: OpenLoad) -> str:
    return (
        f"{load.num_failed} of {len(load.status)} failed, P50 {load.percentile_ms(50):.1f} ms, "
        f"P99 {load.percentile_ms(99):.1f} ms, "
        f"client late by {load.late_ms(99):.1f} ms (P99), {dict(answered_by(load))}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
