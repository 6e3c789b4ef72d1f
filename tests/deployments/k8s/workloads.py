"""The pods that an object makes."""

from __future__ import annotations

import copy

from tests.deployments.k8s.kustomize import Document


def pod_templates(document: Document) -> list[Document]:
    """As they are written; of a RayService the head's, then a template for each group."""
    spec = document.get("spec", {})
    if document["kind"] == "RayService":
        cluster = spec["rayClusterConfig"]
        return [
            cluster["headGroupSpec"]["template"],
            *(one["template"] for one in cluster["workerGroupSpecs"]),
        ]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return [spec["template"]] if "template" in spec else []


def pods(service: Document) -> list[Document]:
    """The pods of a RayService themselves, for judges that know no RayService; beside Ray in the head's, as
    KubeRay puts it there, the autoscaler."""
    made = []
    for number, template in enumerate(pod_templates(service)):
        spec = copy.deepcopy(template["spec"])
        if number == 0:
            options = service["spec"]["rayClusterConfig"]["autoscalerOptions"]
            keys = ("imagePullPolicy", "resources", "securityContext", "env", "volumeMounts")
            autoscaler = {"name": "autoscaler", "image": spec["containers"][0]["image"]}
            spec["containers"].append(autoscaler | {key: options[key] for key in keys})
        name = template["metadata"]["labels"]["app.kubernetes.io/component"]
        metadata = {
            **template["metadata"],
            "name": f"{service['metadata']['name']}-{name}",
            "namespace": service["metadata"]["namespace"],
        }
        made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return made
