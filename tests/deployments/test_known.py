"""What is known of versions does not wait for the controller, and says when it is old."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from deployments import known
from deployments.applications import Health
from deployments.known import Known
from engines.artifact import Repository
from headrace.config import parse_config


class Controller:
    """One that may take its time."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.num_asked = 0

    def health(self) -> dict[str, Health]:
        self.num_asked += 1
        assert self.may_answer.wait(20)
        return {"headrace:far:1": Health(2, 3, True, False, "")}


def test_a_controller_that_is_away_delays_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"far": {"versions": ["1"], "placement": "replicas"}}
    found = Known(
        parse_config({"repository": str(tmp_path), "models": models}), Repository(tmp_path), lambda _: ""
    )
    controller = Controller()
    monkeypatch.setattr(found, "_applications", controller)
    began = time.monotonic()
    assert found.versions()["far"].replicas == {}
    assert found.problems() == []
    monkeypatch.setattr(known, "_OLD_S", 0.0)
    assert found.versions()["far"].stable == "1"
    assert found.problems() == ["the controller does not answer; numbers of replicas may be old"]
    assert time.monotonic() - began < 5
    monkeypatch.setattr(known, "_OLD_S", 30.0)
    controller.may_answer.set()
    until = time.monotonic() + 10
    while not (replicas := found.versions()["far"].replicas):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert (replicas["1"].running, replicas["1"].wanted) == (2, 3)
    assert found.problems() == []
    assert controller.num_asked == 1  # it has better things to do


def test_where_nothing_runs_on_replicas_nobody_is_asked(tmp_path: Path) -> None:
    models = {"near": {"versions": ["1"]}}
    found = Known(
        parse_config({"repository": str(tmp_path), "models": models}), Repository(tmp_path), lambda _: ""
    )
    assert found.versions()["near"].shares == {"1": 1.0}
    assert found.problems() == []
