"""What Kubernetes or KubeRay would refuse is refused before anything is written."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deployments.k8s.options import MAX_NAME, Node, Options
from headrace.errors import ConfigRejected


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("name", "Headrace", ["--name is 'Headrace'", "a-z 0-9 -"]),
        ("name", "1st", ["--name is '1st'", "starting with a letter"]),
        ("name", "", ["--name is ''"]),
        ("name", "a" * (MAX_NAME + 1), ["1 to 35"]),
        ("name", "ends-", ["not ending with -"]),
        ("namespace", "our_models", ["--namespace is 'our_models'"]),
        ("namespace", "a" * 64, ["1 to 63"]),
        ("operator_namespace", "kube ray", ["--operator-namespace is 'kube ray'"]),
        ("monitoring_namespace", "a.b", ["--monitoring-namespace is 'a.b'"]),
        ("image", "headrace", ["--image is 'headrace'", "NAME:TAG"]),
        ("image", "headrace:latest", ["not the tag 'latest'"]),
        ("gpu_image", "Head Race:1", ["--gpu-image is 'Head Race:1'"]),
        ("redis_image", "valkey@sha256:12", ["--redis-image is 'valkey@sha256:12'"]),
        ("reoptimize", "every sunday", ["--reoptimize is 'every sunday'", "'0 3 * * 0'"]),
        ("audit", "* * * *", ["--audit is '* * * *'", "five fields"]),
        ("audit", "60 * * * *", ["--audit is '60 * * * *'"]),
        ("audit", "0 0 0 * *", ["--audit is"]),
        ("audit", "5-1 * * * *", ["--audit is"]),
        ("audit", "*/0 * * * *", ["--audit is"]),
        ("cpu_node", Node(4, 1), ["--memory-per-node is 1", "2 or more"]),
        ("gpu_node", Node(4, 1, 1), ["--gpu-node-memory is 1"]),
        ("storage_class", "Fast SSD", ["--storage-class is 'Fast SSD'"]),
        ("monitor_labels", {"release": "our prometheus"}, ["'release=our prometheus'", "KEY=VALUE"]),
        ("monitor_labels", {"-": "x"}, ["--monitor-label is '-=x'"]),
    ],
)
def test_the_option_its_value_and_what_is_allowed_are_told(key: str, value: Any, told: list[str]) -> None:
    with pytest.raises(ConfigRejected) as caught:
        Options(**{key: value})
    for words in told:
        assert words in str(caught.value)
    assert "allowed" in str(caught.value)


@pytest.mark.parametrize("schedule", ["0 3 * * 0", "*/5 * * * *", "0,30 8-18/2 1 1-6 7", "59 23 31 12 *"])
def test_schedules_as_cron_has_them_are_taken(schedule: str) -> None:
    assert Options(audit=schedule).audit == schedule


@pytest.mark.parametrize(
    "image",
    ["headrace:1", "registry.example:5000/team/headrace:0.2.0-cpu", f"valkey/valkey:8.1@sha256:{'0f' * 32}"],
)
def test_images_as_registries_name_them_are_taken(image: str) -> None:
    assert Options(image=image).image == image


def test_the_longest_names_still_make_names_that_kubernetes_takes() -> None:
    name = "a" * MAX_NAME
    for suffix in ("-config", "-state-redis", "-default-deny", "-dashboards"):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name + suffix)
        assert len(name + suffix) <= 63
    assert Options(name=name).name == name
