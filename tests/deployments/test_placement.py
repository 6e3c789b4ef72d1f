"""What fits nowhere, what is waited for, how many gateways a node may have."""

from __future__ import annotations

import pytest

from deployments.placement import Need, Room, gateways_per_node, refuse, waits_for
from headrace.errors import ConfigRejected

KEYS = {"GPU": "models.far.num_gpus", "CPU": "models.far.threads"}


def room(number: int, total: dict[str, float], free: dict[str, float]) -> Room:
    return Room(f"id{number}", f"10.0.0.{number}", total, free)


HEAD = room(1, {"CPU": 4}, {"CPU": 1})
SMALL = room(2, {"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 0})
LARGE = room(3, {"CPU": 2, "GPU": 2}, {"CPU": 2, "GPU": 0.5})


def test_more_gpus_than_any_node_has_are_refused_with_the_key_the_value_and_what_there_is() -> None:
    with pytest.raises(ConfigRejected) as refused:
        refuse([Need({"GPU": 3.0, "CPU": 1.0}, KEYS)], [HEAD, SMALL, LARGE], "; or wait")
    assert str(refused.value) == (
        "models.far.num_gpus: a replica asks for 3 GPUs; no node of this cluster has more than 2 GPUs "
        "(10.0.0.3); or wait"
    )


def test_where_no_node_has_a_gpu_there_are_zero() -> None:
    with pytest.raises(ConfigRejected, match=r"asks for 0\.5 GPUs; no node .* more than 0 GPUs"):
        refuse([Need({"GPU": 0.5}, KEYS)], [HEAD])


def test_threads_that_no_node_has_cpus_for_are_refused() -> None:
    with pytest.raises(ConfigRejected, match=r"models\.far\.threads: a replica asks for 9 CPUs"):
        refuse([Need({"CPU": 9}, KEYS)], [HEAD, SMALL, LARGE])


def test_what_is_there_but_never_on_one_node_is_refused() -> None:
    with pytest.raises(ConfigRejected, match="asks for 2 GPUs and 8 CPUs on one node"):
        refuse([Need({"GPU": 2, "CPU": 8}, KEYS)], [HEAD, SMALL, LARGE])


def test_what_fits_an_empty_node_is_not_refused_however_full_that_is() -> None:
    refuse([Need({"GPU": 2, "CPU": 2}, KEYS), Need({"CPU": 8}, KEYS)], [HEAD, SMALL, LARGE])


def test_a_replica_that_some_node_can_take_waits_for_nothing() -> None:
    assert waits_for({"GPU": 0.5, "CPU": 1}, [HEAD, SMALL, LARGE]) == ""


def test_the_scarce_resource_is_named_with_what_each_node_has_free() -> None:
    assert waits_for({"GPU": 1, "CPU": 1}, [HEAD, SMALL, LARGE]) == (
        "1 GPU on one node; free: 10.0.0.1 0 of 0 GPUs; 10.0.0.2 0 of 1 GPU; 10.0.0.3 0.5 of 2 GPUs"
    )


def test_where_only_the_combination_is_scarce_both_are_named() -> None:
    assert waits_for({"GPU": 0.5, "CPU": 4}, [HEAD, SMALL, LARGE]).startswith(
        "0.5 GPUs and 4 CPUs on one node"
    )


def test_of_many_nodes_only_some_are_listed() -> None:
    many = [room(number, {"CPU": 1}, {"CPU": 0}) for number in range(1, 10)]
    assert waits_for({"CPU": 1}, many).endswith("10.0.0.4 0 of 1 CPU and 5 nodes more")


def test_where_each_node_has_as_many_as_it_may_another_node_is_waited_for() -> None:
    nodes = [room(1, {"CPU": 4}, {"CPU": 3}), room(2, {"CPU": 4}, {"CPU": 3})]
    assert waits_for({"CPU": 1}, nodes, 1, {"id1": 1, "id2": 1}) == (
        "another node with 1 CPU free: each may have 1 of these"
    )
    assert waits_for({"CPU": 1}, nodes, 1, {"id1": 1}) == ""


@pytest.mark.parametrize(
    ("gateways", "capacities", "limit"),
    [
        (3, [2, 6, 6], 1),
        (4, [2, 6, 6], 2),
        (5, [1, 6, 6], 2),  # one and twice two
        (3, [0, 6, 6], 2),  # a full node counts for nothing
        (2, [4, 4, 4], 1),
        (2, [8], None),  # one node
        (2, [8, 0], None),
        (3, [1, 1, 0], None),  # they do not fit anyway: then they wait for a CPU, not for a node
        (1, [4, 4], None),  # one gateway needs no limit
    ],
)
def test_gateways_spread_as_evenly_as_the_nodes_have_room(
    gateways: int, capacities: list[int], limit: int | None
) -> None:
    assert gateways_per_node(gateways, capacities) == limit
