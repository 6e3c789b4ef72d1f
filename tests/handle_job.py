"""Another Ray job: calls models by handle, one call after the other, until its standard input ends.

    python handle_job.py ADDRESS NODE MODEL ...

It is on the node whose address is given. A line of JSON out for each call that failed, and one at the end.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np


def main() -> None:
    import ray
    from ray import serve

    address, node, *models = sys.argv[1:]
    ray.init(address, namespace="another", _node_ip_address=node, log_to_driver=False, logging_level="ERROR")
    gateway = serve.get_app_handle("headrace")
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    calls = failed = wrong = 0
    slowest_s = 0.0
    x = np.ones((1, 3), np.float32)
    while not ended.is_set():
        began = time.monotonic()
        try:
            answer = gateway.infer.remote(models[calls % len(models)], {"x": x}).result(timeout_s=60)
            wrong += not np.isin(answer["y"], (2.0, 3.0)).all()  # what `double` and `far` make of a one
        except Exception as err:
            failed += 1
            told = json.dumps({"kind": type(err).__name__, "said": str(err)[:200]})
            sys.stderr.write(f"{told}\n")  # at once: Ray's threads write there, too
        calls += 1
        if calls == 1:
            print("ready", flush=True)
        slowest_s = max(slowest_s, time.monotonic() - began)
    print(json.dumps({"calls": calls, "failed": failed, "wrong": wrong, "slowest_s": slowest_s}), flush=True)


if __name__ == "__main__":
    main()
