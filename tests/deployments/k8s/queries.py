"""The metrics that the rendered dashboards and alerts ask for."""

from __future__ import annotations

import json
import re

import yaml

from deployments.k8s.files import Rendered

# What only something that went wrong, a policy, or a GPU brings into being.
NEEDS_AN_EVENT = {
    "ray_headrace_autoscaling_faults_total",
    "ray_headrace_cache_faults_total",
    "ray_headrace_cheaper_answers_total",
    "ray_headrace_feedback_right_total",
    "ray_headrace_feedback_total",
    "ray_headrace_gpu_memory_bytes",
    "ray_headrace_gpu_utilization_ratio",
    "ray_headrace_log_lines_lost_total",
    "ray_headrace_traces_lost_total",
    "ray_serve_health_check_failures_total",
    "ray_serve_autoscaling_desired_replicas",
}


def expressions(rendered: Rendered) -> list[str]:
    """Every query in them."""
    found = []
    for document in yaml.safe_load_all(rendered.files["base/monitoring.yaml"]):
        if document["kind"] == "PrometheusRule":
            found += [rule["expr"] for group in document["spec"]["groups"] for rule in group["rules"]]
    (boards,) = yaml.safe_load_all(rendered.files["base/dashboards.yaml"])
    for text in boards["data"].values():
        board = json.loads(text)
        found += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        found += [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return found


def queried(rendered: Rendered) -> set[str]:
    """The names of metrics in them."""
    return {name for text in expressions(rendered) for name in re.findall(r"\bray_[a-z_]+", text)}
