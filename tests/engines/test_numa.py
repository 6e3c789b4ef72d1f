"""Processes spread over NUMA nodes, each on the cores of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.numa import choose, nodes, parse_list

BOTH = [frozenset({0, 1, 2, 3}), frozenset({4, 5, 6, 7})]


@pytest.fixture
def two_nodes(tmp_path: Path) -> Path:
    for number, cores in enumerate(("0-1,4", "2-3,5-6")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(f"{cores}\n")
    (tmp_path / "node2").mkdir()  # memory alone
    (tmp_path / "node2" / "cpulist").write_text("\n")
    (tmp_path / "online").write_text("0-2\n")
    return tmp_path


def test_a_list_of_cores_is_read() -> None:
    assert parse_list("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert parse_list("\n") == frozenset()


def test_only_cores_that_may_be_used_count(two_nodes: Path) -> None:
    assert nodes(two_nodes, range(7)) == [{0, 1, 4}, {2, 3, 5, 6}]
    assert nodes(two_nodes, {0, 1}) == [{0, 1}]
    assert nodes(two_nodes / "nothing", {0, 1}) == []


def test_processes_take_the_nodes_by_turns_as_long_as_there_are_cores() -> None:
    assert [choose(BOTH, 2, rank) for rank in range(5)] == [BOTH[0], BOTH[1], BOTH[0], BOTH[1], BOTH[0]]
    uneven = [frozenset({0, 1}), frozenset({2, 3, 4, 5, 6, 7})]
    assert [choose(uneven, 2, rank) for rank in range(4)] == [uneven[0], uneven[1], uneven[1], uneven[1]]
    assert choose(uneven, 3, 0) == uneven[1]


def test_what_no_node_holds_and_a_single_node_stay_as_they_are() -> None:
    assert choose(BOTH, 5, 0) is None
    assert choose(BOTH[:1], 2, 0) is None
    assert choose([], 1, 0) is None


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no two nodes")
def test_a_thread_and_those_it_starts_keep_to_the_cores_of_the_node(tmp_path: Path) -> None:
    first, second, *_ = sorted(os.sched_getaffinity(0))
    for number, core in enumerate((first, second)):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(f"{core}")
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from engines.numa import settle\nsettle(1, 1, Path(sys.argv[1]))\n"
        "with ThreadPoolExecutor(1) as pool:\n    print(pool.submit(os.sched_getaffinity, 0).result())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{{{second}}}"
