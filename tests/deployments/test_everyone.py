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


def test_large_answers_of_all_replicas_do_not_end_who_asks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ASKING],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    assert "told" in done.stdout, done.stderr[-2000:]
