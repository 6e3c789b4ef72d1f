"""What gateways and replicas report becomes a decision; a fault becomes none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autoscaling.policy import Goals
from autoscaling.reports import Cost, GatewayReport, ReplicaReport
from deployments import autoscale
from deployments.policies import ByWork, NoteGateways
from headrace.config import AutoscalingConfig

APP = "headrace:timed:1"
CONFIG = AutoscalingConfig(max_replicas=8)
NOW = 1000.0


def series(value: float, at: float = NOW) -> list[Any]:
    return [SimpleNamespace(timestamp=at - 1, value=-1.0), SimpleNamespace(timestamp=at, value=value)]


def context(
    reports: dict[str, dict[str, float]], at: float = NOW, app: str = APP, running: int = 1, target: int = 1
) -> Any:
    """Reports by replica, as Serve shows them: by name, then by replica, the newest last."""
    raw: dict[str, dict[str, list[Any]]] = {}
    for replica, numbers in reports.items():
        for name, value in numbers.items():
            raw.setdefault(name, {})[replica] = series(value, at)
    return SimpleNamespace(
        app_name=app,
        raw_metrics=raw,
        current_num_replicas=running,
        target_num_replicas=target,
        current_time=NOW,
        policy_state={},
    )


def gateway(rows_per_s: float) -> dict[str, float]:
    return autoscale.told({APP: GatewayReport(NOW, rows_per_s, 4 * rows_per_s, 0, 0, 0, 0)})


REPLICA = ReplicaReport(NOW, 0.0, 0.0, 0.1, 0.0125 / 4, 8, 1.0, 1, 2.0).numbers()  # eight rows in 200 ms


def by_work() -> ByWork:
    (config,) = [autoscale.replicas_config(CONFIG, Cost(0.0, 0.0))]
    policy: ByWork = config.policy.get_policy()(**config.policy.policy_kwargs)
    return policy


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    autoscale.note(context({}))


def test_what_waits_at_all_gateways_decides() -> None:
    found, _ = NoteGateways()(context({"g1": gateway(40), "g2": gateway(80)}, app="headrace", target=2))
    assert found == 2
    found, state = by_work()(context({"r1": REPLICA}))
    assert found == 5  # 120 rows a second are 3 s of work, 4 replicas; and what queues until they are there
    assert state["memory"].asked == 5


def test_a_replica_that_sleeps_is_woken_by_what_the_gateways_say() -> None:
    NoteGateways()(context({"g1": gateway(1)}, app="headrace"))
    policy = ByWork(
        goals={**vars_of(autoscale.goals_of(CONFIG)), "min_replicas": 0},
        known=vars_of(Cost(0.1, 0.0, 8.0)),
        every_s=0.1,
    )
    assert policy(context({}, running=0, target=0))[0] == 1


def test_with_many_replicas_it_decides_less_often() -> None:
    config = autoscale.replicas_config(AutoscalingConfig(max_replicas=2000), Cost(0.1, 0.0, 8.0))
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    NoteGateways()(context({"g1": gateway(10)}, app="headrace"))
    at_once = context({"r1": REPLICA})
    assert policy(at_once)[0] == 1
    NoteGateways()(context({"g1": gateway(4000)}, app="headrace"))
    at_once.current_time += 0.5
    assert policy(at_once)[0] == 1
    at_once.current_time += 0.5
    assert policy(at_once)[0] > 100


def test_old_reports_change_nothing() -> None:
    NoteGateways()(context({"g1": gateway(500)}, at=NOW - 16, app="headrace"))
    assert by_work()(context({"r1": REPLICA}, target=3))[0] == 3


def test_without_gateways_nothing_changes() -> None:
    assert by_work()(context({"r1": REPLICA}, target=3))[0] == 3


def test_a_replica_without_a_report_yet_is_no_fault() -> None:
    NoteGateways()(context({"g1": gateway(500)}, app="headrace"))
    assert by_work()(context({"r1": REPLICA, "r2": {"other": 1.0}}, running=2, target=2))[0] == 8


@pytest.mark.parametrize("policy", [by_work(), NoteGateways()])
def test_a_fault_holds_the_number_and_is_counted(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(
        autoscale,
        "_counter",
        lambda spec: SimpleNamespace(inc=lambda tags: counted.append((spec.name, tags))),
    )
    broken = context({}, target=5)
    broken.raw_metrics = {"held": 7}
    assert policy(broken)[0] == 5
    assert counted == [("headrace_autoscaling_faults_total", {"application": APP})]


def test_bounds_and_delays_are_told_to_serve() -> None:
    config = autoscale.replicas_config(AutoscalingConfig(min_replicas=0, max_replicas=8), Cost(0.0, 0.0))
    assert (config.min_replicas, config.initial_replicas, config.max_replicas) == (0, 1, 8)
    assert config.upscale_delay_s == config.downscale_delay_s == 0  # the policy knows when to wait


def test_many_replicas_report_less_often() -> None:
    def interval(replicas: int) -> float:
        config = autoscale.replicas_config(AutoscalingConfig(max_replicas=replicas), Cost(0.0, 0.0))
        return float(config.metrics_interval_s)

    assert interval(8) == 0.5
    assert interval(2000) > 2


def vars_of(parts: Goals | Cost) -> dict[str, Any]:
    return {name: getattr(parts, name) for name in parts.__dataclass_fields__}
