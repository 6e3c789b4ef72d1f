"""What runs by the clock: the audit of what is served, and models optimized again."""

from __future__ import annotations

import hashlib
import re

from deployments.k8s import pods
from deployments.k8s.options import Node, Options
from deployments.k8s.plan import CONFIG_FOLDER, METRICS_PORT, REPOSITORY, Plan
from deployments.k8s.pods import Document
from headrace.errors import ConfigRejected

MAX_CRON_NAME = 52  # Kubernetes adds eleven characters to make the name of a Job
_OPTIMIZER = Node(cpus=4, memory_gib=8)
_LOOK_S = 600  # at what is asked of the server
_KUBERAYS = "ray.io/is-ray-node"  # a label of each pod that is a node to Ray: "yes"


def audit_command(plan: Plan, options: Options) -> list[str]:
    """By the configuration and what the nodes' metrics say: a pod beside Ray is no driver of it."""
    metrics = f"http://{options.name}-nodes:{METRICS_PORT}/metrics"
    config = f"{CONFIG_FOLDER}/{plan.file}"
    return ["headrace", "audit", config, "--metrics", metrics, "--seconds", str(_LOOK_S)]


def nodes(options: Options) -> Document:
    """A name that stands for all of Ray's nodes, ready or not, for whoever reads their metrics."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": pods.metadata(options, "nodes", "audit"),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {pods.PART_OF: options.name, _KUBERAYS: "yes"},
            "ports": [{"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics"}],
        },
    }


def cron_jobs(plan: Plan, options: Options) -> list[Document]:
    """ConfigRejected when a recipe is for no model or not on the volume."""
    audit = _cron_job(
        options,
        "audit",
        "audit",
        options.audit,
        audit_command(plan, options),
        pods.small("500m", "1Gi"),
        timeout_s=_LOOK_S + 600,
    )
    config = {"name": "config", "configMap": {"name": f"{options.name}-config"}}
    _mount(audit, config, CONFIG_FOLDER, read_only=True)
    _mount(audit, pods.claim_volume(options, "models", read_only=True), REPOSITORY, read_only=True)
    made = [audit]
    for model, recipe in options.recipes.items():
        if model not in plan.config.models:
            known = ", ".join(sorted(plan.config.models))
            raise ConfigRejected(f"--recipe is for {model!r}, which is no model; allowed: {known}")
        if not recipe.startswith(f"{REPOSITORY}/") or ".." in recipe.split("/"):
            raise ConfigRejected(
                f"--recipe for {model!r} is {recipe!r}; allowed: a file on the volume, such as "
                f"{REPOSITORY}/recipes/{model}.py"
            )
        goals = [word for goal in options.goals for word in ("--goal", goal)]
        command = ["headrace", "reoptimize", model, "--recipe", recipe, "--repository", REPOSITORY, *goals]
        job = _cron_job(
            options,
            f"optimize-{_as_label(model, MAX_CRON_NAME - len(options.name) - 10)}",
            "optimize",
            options.reoptimize,
            command,
            pods.resources(_OPTIMIZER),
            timeout_s=6 * 3600,
        )
        _mount(job, pods.claim_volume(options, "models", read_only=False), REPOSITORY)
        made.append(job)
    return made


def _mount(job: Document, volume: Document, path: str, *, read_only: bool = False) -> None:
    spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    spec["volumes"].append(volume)
    spec["containers"][0]["volumeMounts"].append(pods.mount(volume["name"], path, read_only))


def _as_label(name: str, longest: int) -> str:
    """A model's name where Kubernetes takes fewer characters; one that had to change ends with its digest,
    so that no two become the same."""
    plain = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    if plain == name and len(plain) <= longest:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{plain[: max(0, longest - 7)].rstrip('-')}-{digest}".lstrip("-")


def _cron_job(
    options: Options,
    name: str,
    component: str,
    schedule: str,
    command: list[str],
    resources: Document,
    timeout_s: int,
) -> Document:
    container = {
        "name": component,
        "image": options.image,
        "imagePullPolicy": "Always",
        "command": command,
        "env": [
            {"name": "HOME", "value": pods.TMP},
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
        ],
        "resources": resources,
        "securityContext": pods.container_security(),
        "volumeMounts": [pods.mount("tmp", pods.TMP), pods.mount("shared-mem", pods.SHARED_MEMORY)],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": pods.metadata(options, name, component),
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 600,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": timeout_s,
                    "template": {
                        "metadata": {"labels": pods.labels_of(options, component)},
                        "spec": {
                            "restartPolicy": "Never",
                            "automountServiceAccountToken": False,
                            "enableServiceLinks": False,
                            "securityContext": pods.pod_security(),
                            "containers": [container],
                            "volumes": [
                                pods.empty("tmp", "10Gi"),
                                pods.empty("shared-mem", f"{pods.SHARED_MEMORY_GIB}Gi", in_memory=True),
                            ],
                        },
                    },
                }
            },
        },
    }
