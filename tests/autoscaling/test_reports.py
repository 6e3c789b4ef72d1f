"""Reports of many processes become one demand, in seconds of a replica."""

import pytest

from autoscaling.reports import Cost, GatewayReport, ReplicaReport, cost_of, demand_of

COST = Cost(base_s=0.05, per_element_s=0.001, batch_rows=8, fill=0.8, permits=2)


def gateway(at: float = 1.0, rows: float = 10, elements: float = 100, oldest_s: float = 0.0) -> GatewayReport:
    return GatewayReport(at, 2 * rows, 2 * elements, rows, elements, rows, oldest_s)


def replica(
    at: float = 1.0, base_s: float = 0.05, work_s: float = 1.0, oldest_s: float = 0.0
) -> ReplicaReport:
    return ReplicaReport(at, work_s, oldest_s, base_s, 0.0 if not base_s else 0.001, 8, 0.8, 2, 1.5)


def test_work_is_full_batches_and_padding_over_all_permits() -> None:
    assert COST.seconds(rows=80, elements=800) == pytest.approx((10 * 0.05 + 800 / 0.8 * 0.001) / 2)


def test_what_gateways_and_replicas_hold_is_added_up() -> None:
    demand = demand_of([gateway(), gateway()], [replica(), replica()], COST)
    assert demand is not None
    assert demand.offered == pytest.approx(2 * COST.seconds(20, 200))
    assert demand.backlog_s == pytest.approx(2 * COST.seconds(10, 100) + 2.0)
    assert demand.held == 20


def test_it_is_as_old_as_its_oldest_report_and_its_oldest_request() -> None:
    demand = demand_of(
        [gateway(at=5.0, oldest_s=0.2), gateway(at=3.0)], [replica(at=4.0, oldest_s=0.7)], COST
    )
    assert demand is not None
    assert demand.at == 3.0
    assert demand.oldest_s == 0.7


def test_without_a_gateway_nothing_is_known() -> None:
    assert demand_of([], [replica()], COST) is None


def test_a_model_that_sleeps_has_demand_without_replicas() -> None:
    demand = demand_of([gateway()], [], COST)
    assert demand is not None
    assert demand.backlog_s == pytest.approx(COST.seconds(10, 100))


def test_replicas_that_ran_nothing_yet_do_not_count_as_free() -> None:
    assert cost_of([replica(base_s=0.0)], COST) is COST
    assert cost_of([replica(base_s=0.0), replica(base_s=0.2)], COST).base_s == pytest.approx(0.2)


def test_reports_travel_as_numbers() -> None:
    assert set(map(type, replica().numbers().values())) <= {int, float}
    assert ReplicaReport(7.0, **replica().numbers()) == replica(at=7.0)
    assert GatewayReport(7.0, **gateway().numbers()) == gateway(at=7.0)
