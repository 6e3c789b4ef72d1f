"""What a user says of the cluster, and what Kubernetes and KubeRay would refuse of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace import __version__
from headrace.errors import ConfigRejected

MAX_NAME = 35  # KubeRay takes 47 for a RayService, and a CronJob of 52 has up to 17 of ours
MAX_NAMESPACE = 63
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_IMAGE = re.compile(
    r"([a-z0-9][a-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_STORAGE_CLASS = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day, month, weekday
_CRON_PART = re.compile(r"(\*|(?P<first>[0-9]{1,2})(-(?P<last>[0-9]{1,2}))?)(/(?P<step>[1-9][0-9]?))?")
MIN_MEMORY_GIB = 2  # shared memory alone takes one


@dataclass(frozen=True, slots=True)
class Node:
    """One pod that is a node to Ray."""

    cpus: int
    memory_gib: int
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that the configuration does not say. ConfigRejected when a cluster would refuse it."""

    name: str = "headrace"
    namespace: str = "headrace"
    image: str = f"headrace:{__version__}-cpu"
    gpu_image: str = f"headrace:{__version__}-gpu"
    redis_image: str = "valkey/valkey:8.1.1-alpine"
    cpu_node: Node = Node(cpus=4, memory_gib=8)
    gpu_node: Node = Node(cpus=4, memory_gib=16, gpus=1)
    max_nodes: int = 10  # of each kind
    volume_gib: int = 20
    storage_class: str | None = None  # None: the cluster's own choice
    operator_namespace: str = "kuberay-system"
    monitoring_namespace: str = "monitoring"
    monitor_labels: Mapping[str, str] = field(default_factory=lambda: {"release": "prometheus"})
    recipes: Mapping[str, str] = field(default_factory=dict)  # model -> its recipe on the volume
    goals: tuple[str, ...] = ()
    reoptimize: str = "0 3 1 1,4,7,10 *"  # when
    audit: str = "0 6 1 * *"

    def __post_init__(self) -> None:
        _check_label("name", self.name, _SERVICE_NAME, MAX_NAME, "starting with a letter")
        for key in ("namespace", "operator_namespace", "monitoring_namespace"):
            _check_label(key, getattr(self, key), _LABEL, MAX_NAMESPACE, "starting with a letter or digit")
        for key in ("image", "gpu_image", "redis_image"):
            _check_image(key, getattr(self, key))
        for key, schedule in (("reoptimize", self.reoptimize), ("audit", self.audit)):
            if not _is_schedule(schedule):
                raise ConfigRejected(
                    f"{_option(key)} is {schedule!r}; allowed: five fields of cron, such as '0 3 * * 0'"
                )
        for key, node in (("memory_per_node", self.cpu_node), ("gpu_node_memory", self.gpu_node)):
            if node.memory_gib < MIN_MEMORY_GIB:
                raise ConfigRejected(
                    f"{_option(key)} is {node.memory_gib}; allowed: {MIN_MEMORY_GIB} or more, in GiB"
                )
        if self.storage_class is not None and not _STORAGE_CLASS.fullmatch(self.storage_class):
            raise ConfigRejected(
                f"--storage-class is {self.storage_class!r}; allowed: up to 253 of the characters a-z 0-9 - "
                "., letters or digits at both ends"
            )
        for label, value in self.monitor_labels.items():
            if not _LABEL_KEY.fullmatch(label) or not _LABEL_VALUE.fullmatch(value):
                raise ConfigRejected(
                    f"--monitor-label is {f'{label}={value}'!r}; allowed: KEY=VALUE of up to 63 of the "
                    "characters A-Z a-z 0-9 - _ . each, letters or digits at both ends"
                )


def _check_label(key: str, value: str, pattern: re.Pattern[str], longest: int, start: str) -> None:
    if not pattern.fullmatch(value) or len(value) > longest:
        raise ConfigRejected(
            f"{_option(key)} is {value!r}; allowed: 1 to {longest} of the characters a-z 0-9 -, {start}, "
            "not ending with -"
        )


def _check_image(key: str, value: str) -> None:
    found = _IMAGE.fullmatch(value)
    if found is None or not (found["digest"] or found["tag"]) or (found["tag"] == "latest"):
        raise ConfigRejected(
            f"{_option(key)} is {value!r}; allowed: NAME:TAG or NAME@sha256:DIGEST, but not the tag "
            "'latest', which names another image tomorrow"
        )


def _is_schedule(text: str) -> bool:
    fields = text.split(" ")
    return len(fields) == len(_CRON) and all(
        _is_within(part, first, last)
        for field, (first, last) in zip(fields, _CRON, strict=True)
        for part in field.split(",")
    )


def _is_within(part: str, first: int, last: int) -> bool:
    found = _CRON_PART.fullmatch(part)
    if found is None:
        return False
    if found["first"] is None:
        return True
    start, end = int(found["first"]), int(found["last"] or found["first"])
    return first <= start <= end <= last


def _option(key: str) -> str:
    return "--" + key.replace("_", "-")
