"""Who reaches what, by the NetworkPolicies as a network applies them."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.k8s.files import render
from deployments.k8s.options import Options
from tests.deployments.k8s.kustomize import Document, built, only
from tests.deployments.k8s.samples import config, example_in

OURS = "headrace"
PODS: dict[str, tuple[str, dict[str, str]]] = {  # namespace and labels, KubeRay's included
    "head": (OURS, {"part": "head", "ray.io/node-type": "head"}),
    "gateway": (OURS, {"part": "cpu", "ray.io/node-type": "worker"}),
    "gpu": (OURS, {"part": "gpu", "ray.io/node-type": "worker"}),
    "cleanup": (OURS, {"part": "head", "ray.io/node-type": "redis-cleanup"}),
    "cache": (OURS, {"part": "cache"}),
    "state": (OURS, {"part": "state"}),
    "audit": (OURS, {"part": "audit"}),
    "operator": ("kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"}),
    "not the operator": ("kuberay-system", {"app.kubernetes.io/name": "other"}),
    "prometheus": ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "dns": ("kube-system", {"k8s-app": "kube-dns"}),
    "stranger": ("default", {}),
    "disguised": ("default", {"part": "cpu", "ray.io/node-type": "worker"}),
    "outside": ("", {}),
}
DASHBOARD, CLIENT, GCS, REDIS, METRICS, HTTP, GRPC = 8265, 10001, 6379, 6379, 8080, 8000, 9000


def labels(pod: str) -> dict[str, str]:
    found = dict(PODS[pod][1])
    if part := found.pop("part", ""):
        found |= {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/component": part}
    return found


def selects(selector: Document, held: dict[str, str]) -> bool:
    for one in selector.get("matchExpressions", []):
        assert one["operator"] == "In"
        if held.get(one["key"]) not in one["values"]:
            return False
    return all(held.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def is_peer(peer: Document, pod: str) -> bool:
    namespace = PODS[pod][0]
    if "namespaceSelector" in peer:
        if not namespace or not selects(
            peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}
        ):
            return False
    elif namespace != OURS:
        return False
    return selects(peer.get("podSelector", {}), labels(pod))


def allows(policies: list[Document], way: str, here: str, there: str, port: int) -> bool:
    """Whether the policies of `here` let it be reached by (Ingress) or reach (Egress) `there`."""
    if PODS[here][0] != OURS:
        return True  # others have policies of their own
    mine = [
        policy["spec"]
        for policy in policies
        if way in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], labels(here))
    ]
    rules = [rule for spec in mine for rule in spec[way.lower()]]
    peers = {"Ingress": "from", "Egress": "to"}[way]
    return not mine or any(
        ("ports" not in rule or any(one["port"] == port for one in rule["ports"]))
        and (peers not in rule or any(is_peer(peer, there) for peer in rule[peers]))
        for rule in rules
    )


def reaches(caller: str, called: str, port: int, documents: list[Document] | None = None) -> bool:
    found = documents or example_in("overlays/gpu")
    policies = [one for one in found if one["kind"] == "NetworkPolicy"]
    return allows(policies, "Ingress", called, caller, port) and allows(
        policies, "Egress", caller, called, port
    )


@pytest.mark.parametrize(
    "caller", ["stranger", "disguised", "outside", "prometheus", "audit", "not the operator"]
)
@pytest.mark.parametrize(
    ("called", "port"),
    [
        ("head", DASHBOARD),
        ("head", CLIENT),
        ("head", GCS),
        ("cache", REDIS),
        ("state", REDIS),
        ("gateway", DASHBOARD),
        ("gateway", 30000),  # a replica's own port, past HAProxy
    ],
)
def test_dashboard_client_port_and_redis_are_never_reached_from_elsewhere(
    caller: str, called: str, port: int
) -> None:
    assert not reaches(caller, called, port)


@pytest.mark.parametrize(
    ("caller", "called", "port"),
    [
        ("outside", "gateway", HTTP),
        ("stranger", "gateway", GRPC),
        ("gateway", "head", GCS),
        ("head", "gateway", 30000),
        ("gateway", "gpu", 10002),
        ("gateway", "cache", REDIS),
        ("gpu", "cache", REDIS),
        ("head", "state", REDIS),
        ("cleanup", "state", REDIS),
        ("operator", "head", DASHBOARD),
        ("prometheus", "gateway", METRICS),
        ("prometheus", "head", 44217),
        ("audit", "gateway", METRICS),
        ("audit", "gpu", METRICS),
        ("gateway", "dns", 53),
        ("head", "outside", 443),  # Kubernetes, for the autoscaler
    ],
)
def test_what_has_to_be_reached_is(caller: str, called: str, port: int) -> None:
    assert reaches(caller, called, port)


@pytest.mark.parametrize(
    ("caller", "called", "port"),
    [
        ("gateway", "state", REDIS),
        ("head", "cache", REDIS),
        ("operator", "head", CLIENT),
        ("operator", "cache", REDIS),
        ("prometheus", "head", HTTP),
        ("outside", "head", HTTP),
        ("gateway", "outside", 443),
        ("gpu", "stranger", 80),
        ("audit", "outside", 443),
        ("audit", "gateway", HTTP),
        ("audit", "head", 44217),
        ("state", "outside", 443),
    ],
)
def test_what_nobody_needs_is_closed(caller: str, called: str, port: int) -> None:
    assert not reaches(caller, called, port)


def test_a_cache_of_the_users_own_can_be_reached_by_gateways_only() -> None:
    rendered = render(config({"m": {}}, cache={"url": "redis://cache.example:6379/0"}), Options())
    documents = built(rendered.files, "base")
    assert reaches("gateway", "outside", REDIS, documents)
    assert not reaches("audit", "outside", REDIS, documents)


@pytest.mark.parametrize("name", ["headrace-cpu"])
def test_draining_leaves_all_nodes_but_one(name: str) -> None:
    documents = example_in("base")
    budget = only(documents, "PodDisruptionBudget", name)["spec"]
    (group,) = only(documents, "RayService", "headrace")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert budget["minAvailable"] == group["minReplicas"] - 1
    assert selects(budget["selector"], group["template"]["metadata"]["labels"])


def test_one_node_alone_has_no_budget_that_would_keep_it_from_being_drained() -> None:
    documents = built(render(config({"m": {}}, gateways=1), Options()).files, "base")
    assert not [one for one in documents if one["kind"] == "PodDisruptionBudget"]


def test_gpu_nodes_have_a_budget_where_there_are_several() -> None:
    gpu: dict[str, Any] = {"g": {"placement": "replicas", "num_gpus": 1.0, "replicas": 3}}
    documents = built(render(config(gpu), Options()).files, "overlays/gpu")
    assert only(documents, "PodDisruptionBudget", "headrace-gpu")["spec"]["minAvailable"] == 2
