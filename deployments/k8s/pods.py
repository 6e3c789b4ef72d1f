"""What all our objects and pods have in common: labels, security, volumes, probes."""

from __future__ import annotations

from typing import Any

from deployments.k8s.options import Node, Options

Document = dict[str, Any]

USER = 10001  # of the image (Dockerfile), and above those that a node's own users have
PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
TMP = "/tmp"  # noqa: S108 - a volume of the pod's own
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the same
SHARED_MEMORY_GIB = 1
DNS_NAMESPACE = "kube-system"


def labels_of(options: Options, component: str) -> dict[str, str]:
    """What our own selectors go by."""
    return {PART_OF: options.name, COMPONENT: component}


def metadata(
    options: Options, name: str, component: str, annotations: dict[str, str] | None = None
) -> Document:
    """Of an object called like the whole, with a word behind it."""
    full = f"{options.name}-{name}" if name else options.name
    made: Document = {
        "name": full,
        "namespace": options.namespace,
        "labels": {"app.kubernetes.io/managed-by": "headrace", **labels_of(options, component)},
    }
    return made | ({"annotations": annotations} if annotations else {})


def container_security() -> Document:
    """Nothing that a container could do to its node, and no file of its image changed."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_security() -> Document:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,  # volumes belong to it
        "fsGroupChangePolicy": "OnRootMismatch",  # a large repository is not gone through at each start
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def resources(node: Node) -> Document:
    """Requests equal to limits, so that a node that is short of memory ends others first."""
    wanted: Document = {"cpu": str(node.cpus), "memory": f"{node.memory_gib}Gi"}
    if node.gpus:
        wanted["nvidia.com/gpu"] = node.gpus
    return {"requests": dict(wanted), "limits": dict(wanted)}


def small(cpu: str, memory: str, most_cpu: str | None = None) -> Document:
    """Of what does little."""
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"cpu": most_cpu or cpu, "memory": memory},
    }


def empty(name: str, size: str, in_memory: bool = False) -> Document:
    """A volume that lives as long as its pod."""
    return {"name": name, "emptyDir": {"sizeLimit": size, **({"medium": "Memory"} if in_memory else {})}}


def mount(name: str, path: str, read_only: bool = False) -> Document:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def http_probe(path: str, port: int, period_s: int, failures: int, delay_s: int = 10) -> Document:
    return {
        "httpGet": {"path": path, "port": port},
        "initialDelaySeconds": delay_s,
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def secret_variable(name: str, secret: str, *, is_optional: bool = False) -> Document:
    """An environment variable from the Secret's key of the same name; an optional one may be missing."""
    optional = {"optional": True} if is_optional else {}
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name, **optional}}}


def claim_volume(options: Options, name: str, read_only: bool) -> Document:
    return {
        "name": name,
        "persistentVolumeClaim": {"claimName": f"{options.name}-{name}", "readOnly": read_only},
    }
