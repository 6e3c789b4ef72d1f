"""The two servers are what their configurations say: started here by their containers' own commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from deployments.k8s.files import render
from deployments.k8s.options import Options
from deployments.ports import free_ports
from tests.deployments.k8s.kustomize import built, only
from tests.deployments.k8s.redis_pod import running_redis
from tests.deployments.k8s.samples import config, example_in

PASSWORD = "0f1e2d"


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("Deployment", "headrace-cache", {"maxmemory-policy": "allkeys-lfu", "appendonly": "no", "save": ""}),
        ("StatefulSet", "headrace-state", {"maxmemory-policy": "noeviction", "appendonly": "yes"}),
    ],
)
def test_the_cache_evicts_and_the_state_is_kept(
    tmp_path: Path, kind: str, name: str, wanted: dict[str, str]
) -> None:
    documents = example_in("base")
    (port,) = free_ports(1)
    with running_redis(only(documents, kind, name), documents, tmp_path, port, PASSWORD) as client:
        for key, value in wanted.items():
            assert client.config_get(key) == {key: value}
        memory = int(client.config_get("maxmemory")["maxmemory"])
        limit = only(documents, kind, name)["spec"]["template"]["spec"]["containers"][0]["resources"][
            "limits"
        ]
        assert 0 < memory < int(limit["memory"].removesuffix("Mi")) << 20
        with Redis("127.0.0.1", port, password="wrong") as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


def test_the_cache_is_as_large_as_the_configuration_says() -> None:
    rendered = render(config({"m": {}}, cache={"redis_mib": 1024}), Options())
    text = only(built(rendered.files, "base"), "ConfigMap", "headrace-cache-redis")["data"]["redis.conf"]
    assert "maxmemory 1024mb" in text


def test_without_a_cache_of_ours_there_is_none() -> None:
    for cache in ({"enabled": False}, {"url": "redis://cache.example:6379/0"}):
        documents = built(render(config({"m": {}}, cache=cache), Options()).files, "base")
        assert not [one for one in documents if one["metadata"]["name"] == "headrace-cache"]


def test_the_state_lies_on_a_volume_and_the_cache_does_not() -> None:
    documents = example_in("base")
    claims = only(documents, "StatefulSet", "headrace-state")["spec"]["volumeClaimTemplates"]
    assert [claim["metadata"]["name"] for claim in claims] == ["data"]
    volumes = only(documents, "Deployment", "headrace-cache")["spec"]["template"]["spec"]["volumes"]
    assert not [volume for volume in volumes if "persistentVolumeClaim" in volume]
