"""A second Ray job that asks Headrace by handle: arrays in, arrays out.

python -m examples.handle_client --address 127.0.0.1:6379 --messages 100
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from collections import deque
from pathlib import Path

import ray
from ray import serve

from examples.minilm.data import chat, tokenize

WINDOW = 32  # calls under way at a time
TIMEOUT_S = 60.0


def ask_all(address: str, messages: int) -> dict[str, object]:
    """Ask for every message; the time taken, failures, and the SHA-256 of each answer in order."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    handle = serve.get_app_handle("headrace")
    requests = [dict(tokenize(text)) for text in chat(messages)]
    pending: deque[serve.handle.DeploymentResponse] = deque()
    digests: list[str] = []
    started = time.perf_counter()
    for request in requests:
        if len(pending) == WINDOW:
            digests.append(digest(pending.popleft()))
        pending.append(handle.infer.remote("minilm", request))
    digests += [digest(response) for response in pending]
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "failed": digests.count(""), "digests": digests}


def digest(response: serve.handle.DeploymentResponse) -> str:
    """The SHA-256 of an answer's bytes; empty when the call failed."""
    try:
        answer = response.result(timeout_s=TIMEOUT_S)
    except Exception as err:  # whatever failed, it is counted and said, and the other calls go on
        print(f"a call failed: {type(err).__name__}: {err}", flush=True)
        return ""
    return hashlib.sha256(answer["embedding"].tobytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="the Ray cluster that serves")
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--json", help="write the result to this file")
    options = parser.parse_args()
    result = ask_all(options.address, options.messages)
    print(f"{options.messages} calls by handle in {result['seconds']:.1f} s, {result['failed']} failed")
    if options.json:
        Path(options.json).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
