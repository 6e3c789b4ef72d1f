"""`headrace k8s`: a configuration as Kubernetes manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deployments.k8s.options import Node, Options

cli = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console()
_D = Options()


@cli.callback()
def _commands() -> None:
    """A configuration as Kubernetes manifests."""


@cli.command()
def render(
    config: Annotated[Path, typer.Argument(help="The YAML file that headrace serve takes.")],
    out: Annotated[Path, typer.Option(help="The folder for base/ and overlays/.")] = Path("k8s"),
    name: Annotated[str, typer.Option(help="Of the RayService; every other name begins with it.")] = _D.name,
    namespace: Annotated[str, typer.Option(help="Its own: nothing else belongs into it.")] = _D.namespace,
    image: Annotated[str, typer.Option(help="Built from the Dockerfile's target cpu.")] = _D.image,
    gpu_image: Annotated[str, typer.Option(help="Built from its target gpu.")] = _D.gpu_image,
    redis_image: Annotated[str, typer.Option(help="Has valkey-server and valkey-cli.")] = _D.redis_image,
    cpus_per_node: Annotated[int, typer.Option(min=1, help="Of a node without GPUs.")] = _D.cpu_node.cpus,
    memory_per_node: Annotated[int, typer.Option(min=1, help="In GiB.")] = _D.cpu_node.memory_gib,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="Of a node with GPUs.")] = _D.gpu_node.gpus,
    gpu_node_cpus: Annotated[int, typer.Option(min=1, help="Of a node with GPUs.")] = _D.gpu_node.cpus,
    gpu_node_memory: Annotated[int, typer.Option(min=1, help="In GiB.")] = _D.gpu_node.memory_gib,
    max_nodes: Annotated[int, typer.Option(min=1, help="Of each kind.")] = _D.max_nodes,
    volume: Annotated[int, typer.Option(min=1, help="Of the model repository, in GiB.")] = _D.volume_gib,
    storage_class: Annotated[
        str | None, typer.Option(help="Of volumes; the repository's must allow ReadWriteMany.")
    ] = None,
    operator_namespace: Annotated[
        str, typer.Option(help="Where KubeRay's operator runs.")
    ] = _D.operator_namespace,
    monitoring_namespace: Annotated[
        str, typer.Option(help="Where Prometheus runs.")
    ] = _D.monitoring_namespace,
    monitor_label: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE by which Prometheus finds its monitors: release=prometheus."),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=PATH on the volume: reoptimize this model by the clock."),
    ] = None,
    goal: Annotated[
        list[str] | None, typer.Option(help="As headrace optimize takes it; for every recipe.")
    ] = None,
    reoptimize: Annotated[
        str, typer.Option(help="When, as cron has it; quarterly unless given.")
    ] = _D.reoptimize,
    audit: Annotated[str, typer.Option(help="When, as cron has it; monthly unless given.")] = _D.audit,
) -> None:
    """Write a kustomize base with overlays for KubeRay; what a cluster would refuse is refused here."""
    from deployments.k8s.files import render as run
    from deployments.k8s.files import write
    from headrace.config import load_config
    from optimize.goals import parse_goals

    parse_goals(goal or [])  # for its refusals
    options = Options(
        name=name,
        namespace=namespace,
        image=image,
        gpu_image=gpu_image,
        redis_image=redis_image,
        cpu_node=Node(cpus_per_node, memory_per_node),
        gpu_node=Node(gpu_node_cpus, gpu_node_memory, gpus_per_node),
        max_nodes=max_nodes,
        volume_gib=volume,
        storage_class=storage_class,
        operator_namespace=operator_namespace,
        monitoring_namespace=monitoring_namespace,
        monitor_labels=_pairs("--monitor-label", monitor_label) or _D.monitor_labels,
        recipes=_pairs("--recipe", recipe),
        goals=tuple(goal or ()),
        reoptimize=reoptimize,
        audit=audit,
    )
    rendered = run(load_config(config), options)
    write(rendered, out)
    plan = rendered.plan
    console.print(f"{plan.cpu.least} to {plan.cpu.most} nodes of {plan.cpu.node.cpus} CPUs", highlight=False)
    if plan.gpu is not None:
        node = plan.gpu.node
        console.print(
            f"{plan.gpu.least} to {plan.gpu.most} nodes of {node.gpus} GPUs and {node.cpus} CPUs",
            highlight=False,
        )
    secrets = [f"{name}-state (REDIS_PASSWORD)"]
    if plan.secrets:
        secrets.append(f"{name}-cache ({', '.join(plan.secrets)})")
    console.print(
        f"Secrets it needs in {namespace}: {' and '.join(secrets)}", highlight=False, soft_wrap=True
    )
    console.print(f"kubectl apply -k {out / rendered.apply}", highlight=False, soft_wrap=True)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in given or []:
        key, equals, value = word.partition("=")
        if not (key and equals and value) or key in found:
            raise typer.BadParameter(f"{option} {word!r}: allowed are NAME=VALUE, each name once")
        found[key] = value
    return found
