"""Everything together: a folder for kustomize, with a base and overlays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from deployments.k8s import dashboard, jobs, monitoring, network, pods, ray_service, redis
from deployments.k8s.options import Node, Options
from deployments.k8s.plan import Plan, plan_of, without_gpus
from deployments.k8s.pods import Document
from headrace.config import Config

_HEADING = "# Written by headrace k8s render: what is changed here is lost with its next run.\n"
_PLANS_GIB = 10  # of built plans: some tens to hundreds of MiB each
_DEV_NODE = Node(cpus=2, memory_gib=4)
_GROUPS = "/spec/rayClusterConfig/workerGroupSpecs"
_JOB_COMMAND = "/spec/jobTemplate/spec/template/spec/containers/0/command"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files, by their paths in the folder, and which of its folders is to be applied."""

    files: dict[str, str]
    apply: str
    plan: Plan


def render(config: Config, options: Options) -> Rendered:
    """Pure, but for a look at the repository; raises what `plan_of` raises."""
    plan = plan_of(config, options)
    folders = {"base": _base(plan, options)}
    if plan.gpu is not None:
        folders["overlays/gpu"] = _gpu(plan, options)
    if any(entry.num_gpus == 0 for entry in config.models.values()):
        folders["overlays/dev"] = _dev(config, options)
    files = {f"{folder}/{name}": text for folder, made in folders.items() for name, text in made.items()}
    return Rendered(files, "base" if plan.gpu is None else "overlays/gpu", plan)


def write(rendered: Rendered, folder: Path) -> None:
    """Into a folder that is ours alone: an overlay that is not wanted any more is removed."""
    for path in sorted({*folder.glob("base/*.yaml"), *folder.glob("overlays/*/*.yaml")}):
        if path.read_text(encoding="utf-8").startswith(_HEADING):
            path.unlink()
    for overlay in folder.glob("overlays/*"):
        if overlay.is_dir() and not any(overlay.iterdir()):
            overlay.rmdir()
    for name, text in rendered.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _base(plan: Plan, options: Options) -> dict[str, str]:
    documents = {
        "namespace.yaml": [_namespace(options)],
        "config.yaml": [_config_map(plan, options)],
        "models.yaml": [_claim(options, "models", options.volume_gib)],
        "redis-state.yaml": redis.state(options),
        "ray-service.yaml": [ray_service.ray_service(plan, options)],
        "network.yaml": network.policies(plan, options),
        "disruption.yaml": network.budgets(plan, options),
        "jobs.yaml": [*jobs.cron_jobs(plan, options), jobs.nodes(options)],
        "monitoring.yaml": [*monitoring.monitors(options), monitoring.alerts(plan, options)],
        "dashboards.yaml": [dashboard.dashboards(options)],
    }
    if plan.own_cache:
        documents["redis-cache.yaml"] = redis.cache(options, plan.config.cache.redis_mib)
    files = {name: _text(*made) for name, made in documents.items() if made}
    return files | {"kustomization.yaml": _kustomization(sorted(files))}


def _gpu(plan: Plan, options: Options) -> dict[str, str]:
    add = {"op": "add", "path": f"{_GROUPS}/-", "value": ray_service.gpu_group(plan, options)}
    files = {"ray-service.yaml": _text([add]), "plans.yaml": _text(_claim(options, "plans", _PLANS_GIB))}
    budgets = network.gpu_budget(plan, options)
    if budgets:
        files["disruption.yaml"] = _text(*budgets)
    patches = [_patch("RayService", options.name, "ray-service.yaml")]
    resources = ["../../base", "plans.yaml", *(["disruption.yaml"] if budgets else [])]
    return files | {"kustomization.yaml": _kustomization(resources, patches)}


def _dev(config: Config, options: Options) -> dict[str, str]:
    """One small node, one gateway, one replica of each model: whether it runs, not how fast. Models that
    need a GPU are left out."""
    smaller = without_gpus(config)
    models = {
        name: entry.model_copy(update={"autoscaling": None, "replicas": 1})
        for name, entry in smaller.models.items()
        if entry.placement == "replicas"
    }
    smaller = smaller.model_copy(update={"gateways": 1, "models": {**smaller.models, **models}})
    taken = 1 + sum(
        entry.cores * max(1, len(entry.versions))
        for entry in smaller.models.values()
        if entry.placement == "replicas"
    )
    node = Node(max(_DEV_NODE.cpus, taken), _DEV_NODE.memory_gib)
    small = replace(options, cpu_node=node, recipes={})
    plan = plan_of(smaller, small)
    settings = ray_service.applications(plan)
    files = {
        "ray-service.yaml": _text(
            [
                {"op": "replace", "path": "/spec/serveConfigV2", "value": settings},
                {"op": "replace", "path": f"{_GROUPS}/0", "value": ray_service.cpu_group(plan, small)},
            ]
        ),
        "config.yaml": _text([{"op": "replace", "path": "/data", "value": {plan.file: plan.text}}]),
        "models.yaml": _text(
            [
                # One node reads it, so the volume may be of the plainest kind.
                {"op": "replace", "path": "/spec/accessModes", "value": ["ReadWriteOnce"]},
                {"op": "replace", "path": "/spec/resources/requests/storage", "value": "2Gi"},
            ]
        ),
    }
    files["audit.yaml"] = _text(
        [{"op": "replace", "path": _JOB_COMMAND, "value": jobs.audit_command(plan, options)}]
    )
    patches = [
        _patch("RayService", options.name, "ray-service.yaml"),
        _patch("CronJob", f"{options.name}-audit", "audit.yaml"),
        _patch("ConfigMap", f"{options.name}-config", "config.yaml"),
        _patch("PersistentVolumeClaim", f"{options.name}-models", "models.yaml"),
    ]
    return files | {"kustomization.yaml": _kustomization(["../../base"], patches)}


def _namespace(options: Options) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": options.namespace,
            "labels": {
                pods.PART_OF: options.name,
                # Kubernetes itself refuses a pod here that may do more than ours.
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            },
        },
    }


def _config_map(plan: Plan, options: Options) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": pods.metadata(options, "config", "serve"),
        "data": {plan.file: plan.text},
    }


def _claim(options: Options, name: str, size_gib: int) -> Document:
    spec: Document = {
        "accessModes": ["ReadWriteMany"],  # on every node
        "resources": {"requests": {"storage": f"{size_gib}Gi"}},
    }
    if options.storage_class is not None:
        spec["storageClassName"] = options.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": pods.metadata(options, name, "serve"),
        "spec": spec,
    }


def _kustomization(resources: list[str], patches: list[Document] | None = None) -> str:
    document: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    }
    return _text(document | ({"patches": patches} if patches else {}))


def _patch(kind: str, name: str, path: str) -> Document:
    return {"target": {"kind": kind, "name": name}, "path": path}


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block; a value that stands in two places is written twice, since an alias
    is hard to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)


def _text(*documents: Any) -> str:
    return _HEADING + "---\n".join(
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
        for document in documents
    )
