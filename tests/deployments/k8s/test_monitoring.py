"""Dashboards and alerts ask for metrics that there are; `test_serve_deploy` asks a server for them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import ray.serve
import yaml

from deployments.k8s.files import render
from deployments.k8s.options import Options
from headrace.metrics import ALL
from tests.deployments.k8s.kustomize import built, only
from tests.deployments.k8s.queries import expressions, queried
from tests.deployments.k8s.samples import config, example, example_in

OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


def ours() -> dict[str, set[str]]:
    """Names on the Prometheus port, with the labels that each has."""
    found: dict[str, set[str]] = {}
    for spec in ALL:
        ends = OF_HISTOGRAMS if spec.kind == "histogram" else ("",)
        found |= {f"ray_{spec.name}{end}": set(spec.labels) for end in ends}
    return found


def of_serve() -> set[str]:
    """The names that Ray Serve's own sources give to metrics."""
    sources = Path(ray.serve.__file__).parent.rglob("*.py")
    return {name for file in sources for name in re.findall(r'"(serve_[a-z_]+)"', file.read_text())}


def test_every_metric_that_is_asked_for_is_made_by_us_or_by_ray_serve() -> None:
    known = set(ours())
    for name in of_serve():
        known |= {f"ray_{name}{end}" for end in ("", "_total", *OF_HISTOGRAMS)}
    assert queried(example()) - known == set()


def test_the_lists_would_not_let_a_wrong_name_pass() -> None:
    assert "ray_headrace_request_latency_seconds" not in ours()
    assert "serve_deployment_replica_healty" not in of_serve()
    assert len(queried(example())) > 12


def test_our_metrics_are_told_apart_only_by_labels_that_they_have() -> None:
    by_ray = {"namespace", "le", "pod", "application", "deployment"}  # the latter by Serve
    for text in expressions(example()):
        for name, inside in re.findall(r"(ray_headrace_[a-z_]+)\{([^}]*)\}", text):
            labels = set(re.findall(r"([a-z_]+)\s*[=!]", inside))
            assert labels <= ours()[name] | by_ray, text


def test_every_metric_of_ours_is_on_a_dashboard() -> None:
    (boards,) = yaml.safe_load_all(example().files["base/dashboards.yaml"])
    shown = " ".join(boards["data"].values())
    for spec in ALL:
        assert f"ray_{spec.name}" in shown


def test_dashboards_are_documents_that_grafana_takes() -> None:
    (boards,) = yaml.safe_load_all(example().files["base/dashboards.yaml"])
    assert boards["metadata"]["labels"]["grafana_dashboard"] == "1"
    for name, text in boards["data"].items():
        board = json.loads(text)
        assert name == f"{board['uid']}.json"
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)


def test_each_scaled_model_is_held_to_its_own_objective() -> None:
    models = {
        "fast": {"placement": "replicas", "autoscaling": {"max_replicas": 2, "objective_ms": 50.0}},
        "slow": {"placement": "replicas", "autoscaling": {"max_replicas": 3, "objective_ms": 2000.0}},
        "fixed": {"placement": "replicas"},
    }
    documents = built(render(config(models), Options()).files, "base")
    rules = only(documents, "PrometheusRule", "headrace-alerts")["spec"]["groups"][0]["rules"]
    slow = {
        rule["expr"].split('model="')[1].split('"')[0]: rule["expr"]
        for rule in rules
        if rule["alert"] == "HeadraceSlow"
    }
    assert set(slow) == {"fast", "slow"}
    assert slow["fast"].endswith("> 0.05")
    assert slow["slow"].endswith("> 2")


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor", "PrometheusRule"])
def test_prometheus_finds_its_objects_by_the_label_that_was_given(kind: str) -> None:
    rendered = render(config({"m": {}}), Options(monitor_labels={"team": "search"}))
    found = [one for one in built(rendered.files, "base") if one["kind"] == kind]
    assert [one["metadata"]["labels"]["team"] for one in found] == ["search"]


def test_every_monitored_port_is_one_that_the_pods_name() -> None:
    documents = example_in("overlays/gpu")
    cluster = only(documents, "RayService", "headrace")["spec"]["rayClusterConfig"]
    head, *workers = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]

    def ports(group: dict[str, dict[str, dict[str, list[dict[str, list[dict[str, str]]]]]]]) -> set[str]:
        return {port["name"] for port in group["template"]["spec"]["containers"][0]["ports"]}

    (pods,) = only(documents, "PodMonitor", "headrace-ray")["spec"]["podMetricsEndpoints"]
    assert all(pods["port"] in ports(group) for group in (head, *workers))
    for endpoint in only(documents, "ServiceMonitor", "headrace-head")["spec"]["endpoints"]:
        assert endpoint["port"] in ports(head)
