"""The folder is what was rendered, and kustomize makes of it what we think."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deployments.k8s.files import render, write
from deployments.k8s.options import Options
from tests.deployments.k8s.kustomize import built, only
from tests.deployments.k8s.samples import ROOT, config, example, example_in

KUBECTL = shutil.which("kubectl")


def test_the_committed_folder_is_what_the_example_gives() -> None:
    committed = {
        str(path.relative_to(ROOT / "k8s")): path.read_text(encoding="utf-8")
        for path in [*ROOT.glob("k8s/base/*"), *ROOT.glob("k8s/overlays/*/*")]
    }
    assert committed == example().files


@pytest.mark.skipif(
    KUBECTL is None, reason="needs kubectl, whose kustomize is the judge; the others go without"
)
@pytest.mark.parametrize("folder", ["base", "overlays/dev", "overlays/gpu"])
def test_kustomize_builds_what_the_other_tests_look_at(folder: str) -> None:
    assert KUBECTL is not None
    done = subprocess.run(
        [KUBECTL, "kustomize", str(ROOT / "k8s" / folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    def key(document: dict[str, dict[str, str]]) -> tuple[str, str]:
        return str(document["kind"]), document["metadata"]["name"]

    by_kustomize = sorted(yaml.safe_load_all(done.stdout), key=key)
    assert by_kustomize == sorted(example_in(folder), key=key)


def test_every_file_of_a_folder_is_in_its_kustomization() -> None:
    files = example().files
    for folder in ("base", "overlays/dev", "overlays/gpu"):
        kustomization = yaml.safe_load(files[f"{folder}/kustomization.yaml"])
        named = {*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))}
        there = {name.rpartition("/")[2] for name in files if name.rpartition("/")[0] == folder}
        assert named - {"../../base"} == there - {"kustomization.yaml"}


def test_without_a_gpu_model_the_base_is_all_that_is_needed() -> None:
    rendered = render(config({"m": {}}), Options())
    assert rendered.apply == "base"
    assert not [name for name in rendered.files if name.startswith("overlays/gpu/")]


def test_with_gpu_models_only_there_is_nothing_to_try_without_one() -> None:
    rendered = render(config({"g": {"placement": "replicas", "num_gpus": 1.0}}), Options())
    assert rendered.apply == "overlays/gpu"
    assert not [name for name in rendered.files if name.startswith("overlays/dev/")]


def test_dev_is_one_small_node_that_needs_no_gpu() -> None:
    documents = example_in("overlays/dev")
    service = only(documents, "RayService", "headrace")
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert group["minReplicas"] == 1
    assert "nvidia.com/gpu" not in group["template"]["spec"]["containers"][0]["resources"]["limits"]
    ((_, text),) = only(documents, "ConfigMap", "headrace-config")["data"].items()
    there = yaml.safe_load(text)
    assert there["gateways"] == 1
    assert set(there["models"]) == {"tokens", "minilm"}


def test_dev_holds_every_model_on_its_one_node() -> None:
    models = {f"m{at}": {"placement": "replicas", "threads": 2, "replicas": 4} for at in range(3)}
    documents = built(render(config(models), Options()).files, "overlays/dev")
    (group,) = only(documents, "RayService", "headrace")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert group["minReplicas"] == 1
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "7"


def test_rendering_again_removes_what_is_not_wanted_any_more_and_nothing_else(tmp_path: Path) -> None:
    write(example(), tmp_path)
    (tmp_path / "base" / "ours.yaml").write_text("kind: Mine\n")
    write(render(config({"m": {}}), Options()), tmp_path)
    assert not (tmp_path / "overlays" / "gpu").exists()
    assert (tmp_path / "base" / "ours.yaml").exists()
    assert (tmp_path / "overlays" / "dev" / "kustomization.yaml").exists()


def test_built_plans_lie_on_a_volume_that_only_gpu_nodes_have() -> None:
    service = only(example_in("overlays/gpu"), "RayService", "headrace")
    groups = {group["groupName"]: group for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}

    def of(group: str) -> tuple[dict[str, str | None], dict[str, str], set[str]]:
        spec = groups[group]["template"]["spec"]
        (container,) = spec["containers"]
        claims = {
            v["persistentVolumeClaim"]["claimName"]
            for v in spec["volumes"]
            if "configMap" not in v and "emptyDir" not in v
        }
        variables = {entry["name"]: entry.get("value") for entry in container["env"]}
        return variables, {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}, claims

    variables, mounts, claims = of("gpu")
    assert variables["HEADRACE_PLANS"] == f"{mounts['plans']}/built"
    assert claims == {"headrace-models", "headrace-plans"}
    assert only(example_in("overlays/gpu"), "PersistentVolumeClaim", "headrace-plans")
    variables, mounts, claims = of("cpu")
    assert "HEADRACE_PLANS" not in variables
    assert "plans" not in mounts
    assert claims == {"headrace-models"}
