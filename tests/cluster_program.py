"""A program that holds a `ray.cluster_utils.Cluster`, so that who tests has nothing to do with Ray.

A line of JSON in is a node to start (the arguments of `Cluster.add_node`; `"is_head": true` for the first, or
for another in the place of a head that was killed); a line out names the cluster's address and the node's
processes. The nodes end with this program.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for line in sys.stdin:
            with contextlib.redirect_stdout(sys.stderr):
                told = _start(cluster, **json.loads(line))
            print(json.dumps(told), flush=True)
    finally:
        for node in cluster.list_all_nodes():
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


def _start(cluster: Any, is_head: bool, **arguments: Any) -> dict[str, Any]:
    if is_head:
        cluster.head_node = None  # a former one was killed from outside
    node = cluster.add_node(**arguments)
    processes = [each.process.pid for kind in node.all_processes.values() for each in kind]
    return {"gcs": cluster.address, "id": node.node_id, "pids": processes}


if __name__ == "__main__":
    main()
