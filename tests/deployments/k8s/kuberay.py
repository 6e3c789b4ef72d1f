"""Whether a RayService has the shape of KubeRay's own resource, and what else its operator refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_FIELDS: dict[str, Any] = json.loads(Path(__file__).with_name("kuberay_fields.json").read_text())
_TYPES = {"string": str, "boolean": bool, "integer": int, "object": dict, "array": list}


def faults(service: dict[str, Any]) -> list[str]:
    """Every fault, with the path of the field."""
    return [*_faults("RayService", service, ""), *_refused(service)]


def _faults(kind: str, value: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path} is no object"]
    known = _FIELDS[kind]
    found = [f"{path}.{key} is unknown" for key in value if key not in known]
    found += [f"{path}.{key} is missing" for key in _FIELDS["required"].get(kind, []) if key not in value]
    for key, held in value.items():
        if key in known:
            found += _wrong(known[key], held, f"{path}.{key}")
    return found


def _wrong(wanted: Any, value: Any, path: str) -> list[str]:
    if isinstance(wanted, list) and len(wanted) == 1:  # a list of one kind
        return [fault for at, one in enumerate(value) for fault in _faults(wanted[0], one, f"{path}[{at}]")]
    if isinstance(wanted, list):
        return [] if value in wanted else [f"{path} is {value!r}, none of {wanted}"]
    if wanted in _FIELDS:
        return _faults(wanted, value, path)
    if wanted == "strings":
        return [f"{path}.{key} is no string" for key, held in value.items() if not isinstance(held, str)]
    is_right = isinstance(value, _TYPES[wanted]) and not (wanted == "integer" and isinstance(value, bool))
    return [] if is_right else [f"{path} is no {wanted}"]


def _refused(service: dict[str, Any]) -> list[str]:
    """What the operator says no to though the shape is right."""
    found = []
    name = service["metadata"]["name"]
    if len(name) > 47 or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        found.append(f"the name {name!r}")
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    for group in groups:
        (container, *_) = group["template"]["spec"]["containers"]
        names = {variable["name"] for variable in container.get("env", [])}
        if names & {"REDIS_PASSWORD", "REDIS_USERNAME", "RAY_REDIS_ADDRESS", "RAY_enable_autoscaler_v2"}:
            found.append("a variable that options of the cluster are there for")
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            found.append("a restartPolicy beside autoscaler v2")
        if {"redis-password", "redis-username", "labels"} & set(group.get("rayStartParams", {})):
            found.append("a start parameter that options of the cluster are there for")
    found += [
        f"the bounds of {group['groupName']}"
        for group in groups[1:]
        if not 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    ]
    if cluster["headGroupSpec"].get("headService", {}).get("metadata", {}).get("name"):
        found.append("a name for the head's Service")
    return found
