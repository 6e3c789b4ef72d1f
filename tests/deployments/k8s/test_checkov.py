"""checkov finds nothing in the manifests and the Dockerfile, but for what has a written reason here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployments.k8s.kustomize import Document
from tests.deployments.k8s.samples import ROOT, example_in
from tests.deployments.k8s.workloads import pods

CHECKOV = ROOT / "out" / "venvs" / "manifests" / "bin" / "checkov"  # put there by make test
FOLDERS = ("base", "overlays/dev", "overlays/gpu")
TIMEOUT_S = 300
# Check -> why it may fail, and for which objects; whatever else fails is a fault.
REASONS = {
    "CKV_K8S_43": (
        "An image's digest is known to who built it: --image and --redis-image take NAME@sha256:DIGEST.",
        {"headrace-audit", "headrace-optimize-minilm", "headrace-cache", "headrace-state"}
        | {"headrace-head", "headrace-cpu", "headrace-gpu"},
    ),
    "CKV_K8S_35": (
        "The cache's password is part of a URL that ${NAME} completes from the environment; Ray reads its "
        "own token and password from there, too.",
        {"headrace-cpu", "headrace-gpu"},
    ),
    "CKV_K8S_8": (
        "The autoscaler's container is KubeRay's, whose options know no probes.",
        {"headrace-head"},
    ),
    "CKV_K8S_9": ("The same; Ray's container beside it has both.", {"headrace-head"}),
    "CKV_K8S_38": (
        "The autoscaler in the head's pod asks Kubernetes for nodes, by the account KubeRay makes for it.",
        {"headrace-head"},
    ),
}


def judged(folder: Path, framework: str) -> dict[str, Any]:
    """checkov's results, without the network that it would ask for words about them."""
    if not CHECKOV.exists():
        told = "no checkov: make out/venvs/manifests/bin/checkov"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    command = [str(CHECKOV), "--directory", str(folder), "--framework", framework, "--skip-download"]
    done = subprocess.run(
        [*command, "--output", "json"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["summary"]["parsing_errors"] == 0
    assert found["summary"]["skipped"] == 0
    return found


def written(documents: Iterable[Document], folder: Path) -> None:
    """One file for each object, the RayService as its pods, which it has no checks for."""
    folder.mkdir()
    for document in documents:
        for one in pods(document) if document["kind"] == "RayService" else [document]:
            name = f"{one['kind']}-{one['metadata']['name']}.yaml"
            (folder / name).write_text(yaml.safe_dump(one, sort_keys=False))


def test_no_check_of_the_manifests_fails_without_a_reason(tmp_path: Path) -> None:
    for folder in FOLDERS:
        written(example_in(folder), tmp_path / folder.rpartition("/")[2])
    found = judged(tmp_path, "kubernetes")
    failed = {
        (check["check_id"], check["resource"].rpartition(".")[2])
        for check in found["results"]["failed_checks"]
    }
    allowed = {(check, name) for check, (_, names) in REASONS.items() for name in names}
    assert failed - allowed == set()
    assert allowed - failed == set(), "a reason that is not needed any more"
    assert found["summary"]["passed"] > 500


def test_no_check_of_the_dockerfile_fails(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Dockerfile", tmp_path)
    found = judged(tmp_path, "dockerfile")
    assert found["results"]["failed_checks"] == []
    assert found["summary"]["passed"] > 20


def test_the_judge_does_find_faults(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN pip install ray\n")
    failed = {check["check_id"] for check in judged(tmp_path, "dockerfile")["results"]["failed_checks"]}
    assert {"CKV_DOCKER_3", "CKV_DOCKER_7"} <= failed  # root, and no version
