"""Two servers that speak Redis's protocol and share nothing: the cache forgets, Ray's state must not."""

from __future__ import annotations

from deployments.k8s import pods
from deployments.k8s.options import Options
from deployments.k8s.plan import CACHE_SECRET
from deployments.k8s.pods import Document
from deployments.k8s.ray_service import STATE_SECRET_KEY

PORT = 6379
_SECRETS = "/run/secrets/redis"
_RUN = "/run/redis"  # in memory: the password as a line of configuration, so that no command holds it
_DATA = "/data"
_CONFIG = "/etc/redis"
_OF_THE_REST = 0.75  # of the memory, for data; buffers and fragmentation take the rest

CACHE = """\
# Answers: what is asked for seldom makes room, and nothing is kept over a restart.
maxmemory-policy allkeys-lfu
save ""
appendonly no
"""
STATE = """\
# Ray's state: nothing may be lost, so a full server refuses instead of forgetting, and each write is logged.
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
"""
_COMMON = """\
include /run/redis/auth.conf
bind * -::*
port 6379
dir /data
maxmemory {megabytes}mb
"""


def cache(options: Options, memory_mib: int) -> list[Document]:
    """The shared cache; whatever happens to it costs speed, never an answer."""
    text = CACHE + _COMMON.format(megabytes=int(memory_mib))
    pod = _pod(options, "cache", CACHE_SECRET, int(memory_mib / _OF_THE_REST))
    pod["spec"]["volumes"].append(pods.empty("data", "64Mi"))
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": pods.metadata(options, "cache", "cache"),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": pods.labels_of(options, "cache")},
            "template": pod,
        },
    }
    return [_config(options, "cache", text), _service(options, "cache"), deployment]


def state(options: Options) -> list[Document]:
    """What Ray's head finds again after a restart."""
    text = STATE + _COMMON.format(megabytes=384)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": pods.labels_of(options, "state")},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            **({"storageClassName": options.storage_class} if options.storage_class else {}),
        },
    }
    stateful = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": pods.metadata(options, "state", "state"),
        "spec": {
            "replicas": 1,
            "serviceName": f"{options.name}-state",
            "selector": {"matchLabels": pods.labels_of(options, "state")},
            "template": _pod(options, "state", STATE_SECRET_KEY, 512),
            "volumeClaimTemplates": [claim],
        },
    }
    return [_config(options, "state", text), _service(options, "state"), stateful]


def _config(options: Options, which: str, text: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": pods.metadata(options, f"{which}-redis", which),
        "data": {"redis.conf": text},
    }


def _service(options: Options, which: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": pods.metadata(options, which, which),
        "spec": {
            "type": "ClusterIP",
            "selector": pods.labels_of(options, which),
            "ports": [{"name": "redis", "port": PORT, "targetPort": "redis"}],
        },
    }


def _pod(options: Options, which: str, key: str, memory_mib: int) -> Document:
    start = (
        f'umask 077 && printf \'requirepass "%s"\\n\' "$(cat {_SECRETS}/{key})" > {_RUN}/auth.conf '
        f"&& exec valkey-server {_CONFIG}/redis.conf"
    )
    ask = f'REDISCLI_AUTH="$(cat {_SECRETS}/{key})" valkey-cli ping | grep -q PONG'
    probe = {"exec": {"command": ["sh", "-c", ask]}, "periodSeconds": 10, "timeoutSeconds": 5}
    container = {
        "name": "redis",
        "image": options.redis_image,
        "imagePullPolicy": "Always",
        "command": ["sh", "-c", start],
        "ports": [{"name": "redis", "containerPort": PORT}],
        "resources": pods.small("250m", f"{memory_mib}Mi", most_cpu="1"),
        "securityContext": pods.container_security(),
        "readinessProbe": probe,
        "livenessProbe": {**probe, "initialDelaySeconds": 10, "failureThreshold": 6},
        "volumeMounts": [
            pods.mount("config", _CONFIG, read_only=True),
            pods.mount("secret", _SECRETS, read_only=True),
            pods.mount("run", _RUN),
            pods.mount("data", _DATA),
        ],
    }
    return {
        "metadata": {"labels": pods.labels_of(options, which)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "containers": [container],
            "volumes": [
                {"name": "config", "configMap": {"name": f"{options.name}-{which}-redis"}},
                {
                    "name": "secret",
                    "secret": {
                        "secretName": f"{options.name}-{which}",
                        "items": [{"key": key, "path": key}],
                        "defaultMode": 0o440,
                    },
                },
                pods.empty("run", "1Mi", in_memory=True),
            ],
        },
    }
