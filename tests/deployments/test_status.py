"""headrace status says what is wrong first, and then what runs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deployments.status import problems
from deployments.status_cli import screen
from tests.conftest import Running
from tests.monitoring.samples import figures
from tests.processes import headrace
from tests.waiting import settled

APPLICATION = {"status": "RUNNING", "message": "", "deployments": {"Gateway": {"RUNNING": 2}}}


def state(**others: Any) -> dict[str, Any]:
    return {
        "problems": [],
        "addresses": ["http://127.0.0.1:8000"],
        "applications": {"headrace": APPLICATION},
        "waits": {},
        "models": {"digits": ["1"], "minilm": ["2", "1"], "text": ["1"]},
        "setups": {},
        "figures": {**figures(), "problems": []},
        "cache": {"entries": 10, "bytes": 5000, "max_bytes": 2**28},
        "unheard": {},
        **others,
    }


def shown(told: dict[str, Any]) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    for part in screen(told):
        console.print(part, highlight=False, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_what_is_well_has_no_problem() -> None:
    assert problems(state()) == []


def test_an_application_that_does_not_run_is_the_worst_of_problems() -> None:
    failed = {**APPLICATION, "status": "DEPLOY_FAILED", "message": "no\n  room " + "x" * 1000}
    told = state(
        applications={"headrace": APPLICATION, "headrace:far:1": failed},
        waits={"headrace:far:1": "2 GPUs (a replica)"},
        figures={**figures(), "problems": ["a gateway does not answer"]},
        unheard={"cache": "the shared cache did not answer; try again"},
    )
    first, *others = problems(told)
    assert first.startswith("headrace:far:1 is DEPLOY_FAILED: no room xxx")
    assert len(first) < 400
    assert others == [
        "headrace:far:1 waits for 2 GPUs (a replica)",
        "the shared cache is out of reach, and every request is computed: the shared cache did not answer; "
        "try again",
        "a gateway does not answer",
    ]


def test_without_figures_the_rest_is_told() -> None:
    told = state(figures=None, unheard={"figures": "the monitor is away"})
    assert problems(told) == ["there are no figures: the monitor is away"]
    assert "minilm: version 1 answers; served: 2, 1" in shown(told)


def test_without_gateways_what_the_cluster_tells_is_told() -> None:
    unheard = dict.fromkeys(("models", "setups", "figures", "cache"), "no gateway runs (ActorDiedError)")
    told = state(models={}, setups={}, figures=None, cache=None, unheard=unheard)
    assert problems(told) == ["no gateway runs (ActorDiedError); headrace serve's own output says why"]
    lines = shown(told)
    assert any(line.startswith("headrace") and "RUNNING" in line for line in lines)
    assert "shared cache: nobody tells" in lines


def test_problems_stand_first_and_everything_fits_a_screen() -> None:
    lines = shown(state(problems=["headrace is UNHEALTHY"]))
    assert lines[0] == "! headrace is UNHEALTHY"
    assert lines[1] == "requests go to http://127.0.0.1:8000"
    assert len(lines) < 24


def test_a_model_is_told_with_versions_shares_replicas_and_its_rollout() -> None:
    lines = shown(state())
    assert (
        "minilm: version 1 (stable) 95%: 114 requests/s, P99 13.0 ms, 1 of 2 replicas; "
        "version 2 (candidate) 5%: 6.03 requests/s, P99 13.0 ms, 1 of 2 replicas"
    ) in lines
    assert "digits: version 1 (stable) 100%: not asked" in lines
    assert "minilm: rollout of version 2, canary 5%, running: too few requests yet" in lines
    assert "text: version 1 answers; served: 1" in lines  # a pipeline has no figures of its own


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({}, "shared cache: answers; 10 entries, 4.88 KiB of 256 MiB"),
        ({"cache": None}, "shared cache: none"),
        ({"cache": None, "unheard": {"cache": "gone"}}, "shared cache: out of reach"),
    ],
)
def test_the_cache_is_there_or_not_or_out_of_reach(others: dict[str, Any], told: str) -> None:
    assert told in shown(state(**others))


def test_nothing_that_runs_is_told_with_how_to_start_it() -> None:
    assert shown(state(applications={})) == ["nothing is served here; start it by: headrace serve CONFIG"]


def test_a_running_server_is_told_as_a_whole(running: Running) -> None:
    told = settled(running.server.ray_address)
    assert told["unheard"] == {}
    assert told["cache"]["max_bytes"] == 64 << 20
    assert "far" in [model["name"] for model in told["figures"]["models"]]
    done = headrace("status", "--address", running.server.ray_address)
    assert f"requests go to http://{running.http}" in done.stdout
    assert "shared cache: answers" in done.stdout
    assert "version 2 (stable) 100%" in done.stdout
