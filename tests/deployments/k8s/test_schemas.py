"""Every object has the shape that Kubernetes, KubeRay and Serve take; pods are as restricted as can be."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.k8s.files import render
from deployments.k8s.options import Options
from deployments.k8s.pods import USER
from headrace.config import load_config
from tests.deployments.k8s.kuberay import faults
from tests.deployments.k8s.kustomize import Document, built, only
from tests.deployments.k8s.samples import EXAMPLE, config, example, example_in
from tests.deployments.k8s.workloads import pod_templates, pods

VERSIONS = ("1.29", "1.37")  # of Kubernetes: the oldest that we mean to run on, and the newest known here
FOLDERS = ("base", "overlays/dev", "overlays/gpu")
MONITORING = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}  # the Prometheus operator's
CASES = [(folder, one) for folder in FOLDERS for one in example_in(folder)]
IDS = [f"{folder}-{one['kind']}-{one['metadata']['name']}" for folder, one in CASES]
HAPROXY_SOCKET = 97  # characters of its path, as HAProxy takes it
NODE_ID = "0" * 56  # the folder that Ray makes for each node


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("folder", "document"), CASES, ids=IDS)
def test_kubernetes_takes_every_object(folder: str, document: Document, version: str) -> None:
    if document["kind"] in MONITORING:
        return
    for one in pods(document) if document["kind"] == "RayService" else [document]:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_judge_of_kubernetes_does_refuse() -> None:
    wrong = copy.deepcopy(only(example_in("base"), "Deployment", "headrace-cache"))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolic"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_kuberay_takes_the_service(folder: str) -> None:
    assert faults(only(example_in(folder), "RayService", "headrace")) == []


def test_the_judge_of_kuberay_does_refuse() -> None:
    service = copy.deepcopy(only(example_in("overlays/gpu"), "RayService", "headrace"))
    cluster = service["spec"]["rayClusterConfig"]
    cluster["autoscalerOption"] = cluster.pop("autoscalerOptions")
    cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    cluster["workerGroupSpecs"][0]["groupName"] = 7
    cluster["workerGroupSpecs"][1]["minReplicas"] = 9
    service["spec"]["upgradeStrategy"]["type"] = "Sometimes"
    service["metadata"]["name"] = "h" * 48
    told = " ".join(faults(service))
    for words in ("autoscalerOption is unknown", "num-cpus", "groupName is no string", "bounds of gpu"):
        assert words in told
    assert "'Sometimes'" in told
    assert "the name 'hhh" in told


@pytest.mark.parametrize("folder", FOLDERS)
def test_serve_takes_the_applications(folder: str) -> None:
    service = only(example_in(folder), "RayService", "headrace")
    settings = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    names = [application.name for application in settings.applications]
    replicas = [] if folder == "overlays/dev" else ["headrace:resnet:1"]
    assert names == ["headrace", "headrace-monitor", *replicas]
    assert settings.http_options.host == "0.0.0.0"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_applications_read_the_configuration_that_the_pods_have(folder: str) -> None:
    documents = example_in(folder)
    service = only(documents, "RayService", "headrace")
    (file,) = only(documents, "ConfigMap", "headrace-config")["data"]
    settings = yaml.safe_load(service["spec"]["serveConfigV2"])
    for template in pod_templates(service):
        (container,) = template["spec"]["containers"]
        (mounted,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "config"]
        for application in settings["applications"]:
            assert application["args"]["config"] == f"{mounted}/{file}"


@pytest.mark.parametrize(("folder", "document"), CASES, ids=IDS)
def test_pods_run_without_root_and_change_nothing_of_their_image(folder: str, document: Document) -> None:
    is_ray = document["kind"] == "RayService"
    for template in pods(document) if is_ray else pod_templates(document):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["runAsUser"] == USER
            assert security["readOnlyRootFilesystem"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert not security["allowPrivilegeEscalation"]
            assert set(container["resources"]) == {"requests", "limits"}
            mounted = {one["name"] for one in container["volumeMounts"]}
            claims = {one["metadata"]["name"] for one in document["spec"].get("volumeClaimTemplates", [])}
            assert mounted <= {volume["name"] for volume in spec["volumes"]} | claims
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not any("hostPath" in volume for volume in spec["volumes"])


@pytest.mark.parametrize(("folder", "document"), CASES, ids=IDS)
def test_everything_lies_in_the_namespace_under_the_name(folder: str, document: Document) -> None:
    assert document["metadata"].get("namespace", document["metadata"]["name"]) == "headrace"
    assert document["metadata"]["name"].startswith("headrace")


def test_no_secret_is_written() -> None:
    for document in example_in("overlays/gpu"):
        assert document["kind"] != "Secret"
        for template in pod_templates(document):
            for container in template["spec"]["containers"]:
                for variable in container.get("env", []):
                    is_secret = "PASSWORD" in variable["name"] or "TOKEN" in variable["name"]
                    assert is_secret == ("valueFrom" in variable)


def test_only_gateways_and_replicas_know_the_secrets() -> None:
    head, cpu, gpu = pod_templates(only(example_in("overlays/gpu"), "RayService", "headrace"))
    known = [
        {variable["name"] for variable in template["spec"]["containers"][0]["env"] if "valueFrom" in variable}
        for template in (head, cpu, gpu)
    ]
    theirs = {"HEADRACE_CACHE_PASSWORD", "HEADRACE_ADMIN_TOKEN"}
    assert known == [set(), theirs, theirs]


def test_nothing_is_placed_on_the_head_and_it_gets_no_requests() -> None:
    spec = only(example_in("base"), "RayService", "headrace")["spec"]
    assert spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["excludeHeadPodFromServeSvc"]


def test_what_needs_no_gpu_keeps_off_the_nodes_that_have_them() -> None:
    models = {"far": {"placement": "replicas", "threads": 2}, "g": {"placement": "replicas", "num_gpus": 1.0}}
    service = only(built(render(config(models), Options()).files, "overlays/gpu"), "RayService", "headrace")
    settings = yaml.safe_load(service["spec"]["serveConfigV2"])
    asked = {
        application["name"]: [one["ray_actor_options"] for one in application.get("deployments", [])]
        for application in settings["applications"]
    }
    assert asked == {
        "headrace": [{"num_cpus": 1, "resources": {"headrace_cpu_node": 1}}],
        "headrace-monitor": [{"num_cpus": 0, "resources": {"headrace_worker": 0.01}}],
        "headrace:far:1": [{"num_cpus": 2, "resources": {"headrace_cpu_node": 2}}],
        "headrace:g:1": [],
    }
    cpu, gpu = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    # As the shell that KubeRay starts Ray by takes it.
    wanted = '"{\\"headrace_worker\\": 1, \\"headrace_cpu_node\\": 4}"'
    assert cpu["rayStartParams"]["resources"] == wanted
    assert "resources" not in gpu["rayStartParams"]


def test_no_path_of_this_machine_is_written() -> None:
    for name, text in example().files.items():
        assert str(EXAMPLE.parent) not in text, name


def test_the_socket_of_haproxy_has_a_path_that_haproxy_takes() -> None:
    _, worker = pod_templates(only(example_in("base"), "RayService", "headrace"))
    (container,) = worker["spec"]["containers"]
    variables: dict[str, Any] = {one["name"]: one.get("value") for one in container["env"]}
    folder, _, name = variables["RAY_SERVE_HAPROXY_SOCKET_PATH"].rpartition("/")
    assert len(f"{folder}/{NODE_ID}/{name}") <= HAPROXY_SOCKET
    assert folder in [one["mountPath"] for one in container["volumeMounts"]]


def test_other_names_reach_every_object() -> None:
    options = Options(name="other", namespace="elsewhere")
    for document in built(render(load_config(EXAMPLE), options).files, "overlays/gpu"):
        assert document["metadata"].get("namespace", document["metadata"]["name"]) == "elsewhere"
        assert "headrace" not in document["metadata"]["name"]
