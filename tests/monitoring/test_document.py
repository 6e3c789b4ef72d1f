from __future__ import annotations

import json

from monitoring.document import document
from monitoring.history import History
from monitoring.process import Gpu, Process
from monitoring.recorder import Seconds
from monitoring.stages import STAGES, Spent
from monitoring.told import Replicas, Told, Versions, Waiting

SPENT: Spent = (0.001, 0.001, 0.001, 0.001, 0.001, 0.004, 0.001)
PROCESS = Process("10.0.0.1", 7, 0.5, 1 << 28, 12, (Gpu(0, "a GPU", 0.25, 1, 2),))
CACHE = {"shared": None, "answers": 3, "bytes": 100, "max_bytes": 1000}
ROLLOUT = {
    "kind": "rollout",
    "phase": "canary",
    "candidate": "2",
    "step_percent": 5.0,
    "state": "running",
    "words": "",
}


def told_by(gateway: str, seconds: Seconds, now: float) -> Told:
    waiting = {("m", "1"): Waiting(2, 0.5)}
    return Told(gateway, "gateway", now, seconds.since(0, now), waiting, PROCESS, cache=CACHE)


def test_everything_that_was_seen_is_told_by_model_and_version() -> None:
    seconds = [Seconds(), Seconds()]
    for each in seconds:
        each.tick(100.0)
        for version in ("1", "1", "1", "2"):
            each.answered(("m", version), "miss", 2, 0.1, SPENT, 0.010)
        each.failed(("m", "1"), "overloaded")
        each.failed(("", ""), "not_found")
        each.ran(("m", "1", "length<=8"), 4, 24, 32, 0.02, 0.01)
        each.compared(("m", "2"), True, 0.5)
        each.judged(("m", "2"), 1.0)
    told = [told_by(str(number), each, 101.0) for number, each in enumerate(seconds)]
    history = History()
    history.take(told, 101.0)
    known = Versions(
        "replicas",
        "1",
        {"1": 0.95, "2": 0.05},
        candidate="2",
        rollout=ROLLOUT,
        replicas={"1": Replicas(1, 2)},
        reports=frozenset("2"),
    )
    found = json.loads(json.dumps(document("9.9", 101.5, told, history, {"m": known}, ["something"])))

    assert (found["version"], found["now"], found["gateways"]) == ("9.9", 101.5, 2)
    assert found["problems"] == ["something"]
    assert found["errors"] == {"not_found": 2}
    assert found["cache"] == {"shared": None, "answers": 6, "bytes": 200, "max_bytes": 2000}
    assert found["processes"][0]["gpus"][0]["name"] == "a GPU"
    (model,) = found["models"]
    assert (model["name"], model["stable"], model["placement"]) == ("m", "1", "replicas")
    assert model["rollout"] == ROLLOUT
    stable, candidate = model["versions"]
    assert (stable["role"], candidate["role"]) == ("stable", "candidate")
    assert (stable["share"], candidate["share"]) == (0.95, 0.05)
    assert (stable["requests_per_s"], stable["rows_per_s"], stable["errors_per_s"]) == (6, 12, 2)
    assert stable["errors"] == {"overloaded": 2}
    assert abs(stable["latency_s"]["p99"] / 0.010 - 1) < 0.01
    assert [entry["stage"] for entry in stable["stages"]] == list(STAGES)
    assert abs(sum(entry["mean"] for entry in stable["stages"]) - 0.010) < 1e-9
    assert stable["tiers"] == {"miss": 6}
    assert (stable["waiting_rows"], stable["oldest_s"]) == (4, 0.5)
    assert stable["batches"] == [
        {"group": "length<=8", "batches": 2, "rows": 4.0, "fill": 0.75, "engine_s": 0.02, "wait_s": 0.01}
    ]
    assert stable["replicas"] == {"running": 1, "wanted": 2}
    assert candidate["replicas"] is None
    assert (stable["report"], candidate["report"]) == (False, True)
    assert candidate["drift"] == {"compared": 2, "differing": 2, "flipped": 0.5}
    assert candidate["accuracy"] == {"right": 1.0, "judged": 2}
    assert stable["accuracy"] is None
    assert stable["drift"] is None


def test_a_model_that_nobody_has_asked_is_told_without_numbers() -> None:
    history = History()
    history.take([], 100.0)
    (model,) = document("9.9", 100.0, [], history, {"m": Versions("inline", "1", {"1": 1.0})})["models"]
    (version,) = model["versions"]
    assert version["latency_s"] is None
    assert version["stages"] == []
    assert version["requests_per_s"] == 0


def test_series_have_a_point_for_each_time_and_none_where_nothing_was_answered() -> None:
    history, seconds = History(), Seconds()
    for now in range(100, 130):
        seconds.tick(now)
        if now < 110:
            seconds.answered(("m", "1"), "miss", 1, 0.0, SPENT, 0.010)
        history.take([told_by("a", seconds, now + 1)], now + 1)
    found = document("9.9", 130.0, [], history, {"m": Versions("inline", "1", {"1": 1.0})})
    series = found["models"][0]["series"]
    line = series["versions"]["1"]
    assert all(len(values) == len(series["time"]) for values in line.values())
    at = series["time"].index(105)
    assert abs(line["p50"][at] / 0.010 - 1) < 0.01
    assert line["requests_per_s"][at] == 1.0
    assert line["p50"][at + 1] is None
    assert line["requests_per_s"][at + 1] == 0.0
