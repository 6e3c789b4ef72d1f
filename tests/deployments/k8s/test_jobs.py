"""What runs by the clock are commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from deployments.cli import cli
from deployments.k8s.files import render
from deployments.k8s.jobs import MAX_CRON_NAME
from deployments.k8s.options import MAX_NAME, Options
from deployments.k8s.plan import CONFIG_FOLDER
from headrace.errors import ConfigRejected
from tests.deployments.k8s.kustomize import Document, built, only
from tests.deployments.k8s.samples import config, example_in


def commands(documents: list[Document]) -> list[list[str]]:
    return [
        container["command"]
        for one in documents
        if one["kind"] == "CronJob"
        for container in one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    ]


def test_every_command_is_one_that_headrace_has_with_options_that_it_takes() -> None:
    group = typer.main.get_command(cli)
    found = commands(example_in("base"))
    assert len(found) == 2
    for program, name, *arguments in found:
        assert program == "headrace"
        assert hasattr(group, "commands")
        group.commands[name].make_context(name, arguments)  # fails on what the command does not know


def test_the_optimizer_may_write_to_the_volume_and_the_audit_only_read_it() -> None:
    documents = example_in("base")

    def volumes(name: str) -> dict[str, Document]:
        spec = only(documents, "CronJob", name)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        return {volume["name"]: volume for volume in spec["volumes"]}

    assert volumes("headrace-optimize-minilm")["models"]["persistentVolumeClaim"]["readOnly"] is False
    assert volumes("headrace-audit")["models"]["persistentVolumeClaim"]["readOnly"] is True


@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/dev"])
def test_the_audit_reads_a_configuration_that_is_there(folder: str) -> None:
    documents = example_in(folder)
    (audit,) = [command for command in commands(documents) if command[1] == "audit"]
    there = only(documents, "ConfigMap", "headrace-config")["data"]
    assert Path(audit[2]).parent == Path(CONFIG_FOLDER)
    assert Path(audit[2]).name in there


def test_the_audit_finds_each_node_by_a_name_without_an_address_of_its_own() -> None:
    documents = example_in("base")
    (audit,) = [command for command in commands(documents) if command[1] == "audit"]
    service = only(documents, "Service", "headrace-nodes")["spec"]
    assert f"http://headrace-nodes:{service['ports'][0]['port']}/metrics" in audit
    assert service["clusterIP"] == "None"


def test_the_audit_is_monthly_and_optimization_quarterly_unless_given() -> None:
    found = {
        one["metadata"]["name"]: one["spec"]["schedule"]
        for one in example_in("base")
        if one["kind"] == "CronJob"
    }
    assert found == {"headrace-audit": "0 6 1 * *", "headrace-optimize-minilm": "0 3 1 1,4,7,10 *"}


def test_without_a_recipe_nothing_is_optimized() -> None:
    (found,) = commands(built(render(config({"m": {}}), Options()).files, "base"))
    assert found[:2] == ["headrace", "audit"]


def test_names_of_models_become_names_that_kubernetes_takes_each_its_own() -> None:
    models = ["MiniLM_L6", "minilm-l6", "a.b", "x" * 64]
    options = Options(name="n" * MAX_NAME, recipes={model: f"/models/{model}.py" for model in models})
    documents = built(render(config({model: {} for model in models}), options).files, "base")
    names = [one["metadata"]["name"] for one in documents if one["kind"] == "CronJob"]
    assert len(set(names)) == len(models) + 1
    for name in names:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= MAX_CRON_NAME


@pytest.mark.parametrize(
    ("recipes", "told"),
    [
        ({"other": "/models/r.py"}, ["--recipe is for 'other'", "allowed: m"]),
        ({"m": "recipe.py"}, ["--recipe for 'm' is 'recipe.py'", "/models/recipes/m.py"]),
        ({"m": "/models/../etc/passwd"}, ["a file on the volume"]),
    ],
)
def test_a_recipe_that_no_pod_could_read_is_refused(recipes: dict[str, str], told: list[str]) -> None:
    with pytest.raises(ConfigRejected) as caught:
        render(config({"m": {}}), Options(recipes=recipes))
    for words in told:
        assert words in str(caught.value)
