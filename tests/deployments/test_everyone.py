from __future__ import annotations

import os
import subprocess
import sys

# A process of its own: what is tested is that it lives.
_ASKING = """
import ray
from ray import serve
from deployments.everyone import ask_all

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0})
class Talkative:
    async def tell(self, text, times=1):
        return text * times

handle = serve.run(Talkative.bind(), name="talkative", route_prefix=None)
for _ in range(400):
    assert ask_all(handle, "tell", "x", times=200_000, timeout_s=30) == ["x" * 200_000] * 2
try:
    ask_all(handle, "tell", "x", times=None, timeout_s=30)
except TypeError:
    print("told")
"""
_SILENT = """
import asyncio, os, time
import ray
from ray import serve
from deployments.everyone import ask_all_async

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

@serve.deployment(num_replicas=3, ray_actor_options={"num_cpus": 0})
class Talkative:
    async def tell(self, silent, cancelled):
        if os.getpid() == silent:
            await asyncio.sleep(60)
        if os.getpid() == cancelled:
            raise asyncio.CancelledError
        return os.getpid()

handle = serve.run(Talkative.bind(), name="talkative", route_prefix=None)

async def ask(*arguments):
    began = time.monotonic()
    told = await ask_all_async(handle, "tell", *arguments, timeout_s=2.0)
    return told, time.monotonic() - began

async def main():
    pids, _ = await ask(0, 0)
    told, took_s = await ask(*pids[:2])
    print(sorted(type(one).__name__ for one in told), took_s < 10, pids[2] in told)

asyncio.run(main())
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )


def test_large_answers_of_all_replicas_do_not_end_who_asks() -> None:
    done = run(_ASKING)
    assert "told" in done.stdout, done.stderr[-2000:]


def test_who_is_silent_or_ends_what_it_was_asked_keeps_nobodys_answer_away() -> None:
    done = run(_SILENT)
    assert "['EngineUnavailable', 'TimeoutError', 'int'] True True" in done.stdout, done.stderr[-2000:]
