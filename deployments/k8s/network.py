"""Who may reach whom: nothing but what is said here, in either direction."""

from __future__ import annotations

from typing import Any

from deployments.k8s import pods
from deployments.k8s.options import Options
from deployments.k8s.plan import (
    AUTOSCALER_METRICS_PORT,
    DASHBOARD_METRICS_PORT,
    DASHBOARD_PORT,
    METRICS_PORT,
    Plan,
)
from deployments.k8s.pods import Document
from deployments.k8s.ray_service import CPU_GROUP, GPU_GROUP

RAY_NODE = "ray.io/node-type"  # KubeRay's label
HEAD, WORKER, CLEANUP = "head", "worker", "redis-cleanup"  # its values; the last tidies up Ray's state
_REDIS = 6379
_API_PORTS = (443, 6443)  # of Kubernetes, wherever it is


def policies(plan: Plan, options: Options) -> list[Document]:
    """The dashboard, Ray's client port and both Redis are reached from our own pods only (and the dashboard
    by KubeRay's operator), requests from everywhere, metrics from the namespace that collects them and by the
    audit."""
    serve = [_tcp(plan.config.http.port), *([_tcp(plan.config.grpc.port)] if plan.config.grpc else [])]
    monitoring = {"namespaceSelector": _namespace(options.monitoring_namespace)}
    operator = {
        "namespaceSelector": _namespace(options.operator_namespace),
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    metrics = [METRICS_PORT, AUTOSCALER_METRICS_PORT, DASHBOARD_METRICS_PORT]
    made = [
        _policy(options, "default-deny", {}, ingress=[], egress=[]),
        _policy(options, "names", {}, egress=[_dns()]),
        _policy(
            options,
            "ray",
            _any_of(RAY_NODE, HEAD, WORKER),
            ingress=[
                {"from": [_ray(HEAD, WORKER)]},
                {"from": [monitoring], "ports": [_tcp(port) for port in metrics]},
                {"from": [{"podSelector": _only(options, "audit")}], "ports": [_tcp(METRICS_PORT)]},
            ],
            egress=[{"to": [_ray(HEAD, WORKER)]}],
        ),
        _policy(
            options,
            "audit",
            _only(options, "audit"),
            egress=[{"to": [_ray(HEAD, WORKER)], "ports": [_tcp(METRICS_PORT)]}],
        ),
        _policy(
            options,
            "requests",
            _any_of(pods.COMPONENT, CPU_GROUP, GPU_GROUP),
            ingress=[{"ports": serve}],
        ),
        _policy(
            options,
            "operator",
            _only(options, "head"),
            ingress=[{"from": [operator], "ports": [_tcp(DASHBOARD_PORT), serve[0]]}],
            egress=[{"ports": [_tcp(port) for port in _API_PORTS]}],  # the autoscaler's
        ),
        _policy(
            options,
            "state",
            _only(options, "state"),
            ingress=[{"from": [_ray(HEAD, CLEANUP)], "ports": [_tcp(_REDIS)]}],
        ),
        _policy(
            options,
            "to-state",
            _any_of(RAY_NODE, HEAD, CLEANUP),
            egress=[{"to": [{"podSelector": _only(options, "state")}], "ports": [_tcp(_REDIS)]}],
        ),
    ]
    if plan.own_cache:
        made += [
            _policy(
                options,
                "cache",
                _only(options, "cache"),
                ingress=[{"from": [_ray(WORKER)], "ports": [_tcp(_REDIS)]}],
            ),
            _policy(
                options,
                "to-cache",
                _any_of(RAY_NODE, WORKER),
                egress=[{"to": [{"podSelector": _only(options, "cache")}], "ports": [_tcp(_REDIS)]}],
            ),
        ]
    elif plan.config.cache.enabled:  # a Redis of the user's, whose address only its URL tells
        made.append(_policy(options, "to-cache", _any_of(RAY_NODE, WORKER), egress=[{}]))
    return made


def budgets(plan: Plan, options: Options) -> list[Document]:
    """A node is drained only while the others carry on. Whole numbers: of what KubeRay makes, Kubernetes
    knows no total that a share or maxUnavailable could be taken of."""
    made = []
    if plan.cpu.least > 1:
        made.append(_budget(options, CPU_GROUP, plan.cpu.least - 1))
    return made


def gpu_budget(plan: Plan, options: Options) -> list[Document]:
    if plan.gpu is None or plan.gpu.least < 2:
        return []
    return [_budget(options, GPU_GROUP, plan.gpu.least - 1)]


def _budget(options: Options, component: str, least: int) -> Document:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": pods.metadata(options, component, component),
        "spec": {"minAvailable": least, "selector": _only(options, component)},
    }


def _policy(
    options: Options,
    name: str,
    whom: Document,
    *,
    ingress: list[Any] | None = None,
    egress: list[Any] | None = None,
) -> Document:
    spec: Document = {"podSelector": whom, "policyTypes": []}
    for kind, rules in (("Ingress", ingress), ("Egress", egress)):
        if rules is not None:
            spec["policyTypes"].append(kind)
            spec[kind.lower()] = rules
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": pods.metadata(options, name, "network"),
        "spec": spec,
    }


def _dns() -> Document:
    return {
        "to": [{"namespaceSelector": _namespace(pods.DNS_NAMESPACE)}],
        "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
    }


def _ray(*kinds: str) -> Document:
    """Ray's pods of this namespace."""
    return {"podSelector": _any_of(RAY_NODE, *kinds)}


def _any_of(label: str, *values: str) -> Document:
    return {"matchExpressions": [{"key": label, "operator": "In", "values": list(values)}]}


def _only(options: Options, component: str) -> Document:
    return {"matchLabels": pods.labels_of(options, component)}


def _namespace(name: str) -> Document:
    return {"matchLabels": {"kubernetes.io/metadata.name": name}}


def _tcp(port: int) -> Document:
    return {"protocol": "TCP", "port": port}
