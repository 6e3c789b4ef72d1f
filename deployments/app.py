"""Configuration -> Serve applications, for `serve run`, `serve deploy`, KubeRay and our own CLI."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.context import _get_global_client

from deployments.autoscale import gateways_config, replicas_config
from deployments.declared import check_declared
from deployments.gateway import Gateway
from deployments.gpu_room import check_memory
from deployments.model import ModelReplica, known_cost
from deployments.monitor import Monitor
from deployments.nodes import rooms
from deployments.pipelines import Step, joined
from deployments.placement import Need, gateways_per_node, refuse
from deployments.setup import Setup, gateways_of, instances_of, setup_of
from deployments.versions import APP_PREFIX, GATEWAY_APP, MONITOR_APP, app_name, chosen_versions
from deployments.waiting import capacities, telling
from engines.artifact import Repository
from engines.cpu import cpu_cores
from engines.manifest import digest_of
from headrace.config import Config, load_config
from headrace.errors import ArtifactRejected, EngineUnavailable
from rollout.store import Store


def routed_by(path: str) -> RequestRouterConfig:
    """The router at `path` under the name of Serve's own. By its own name `serve deploy` and KubeRay would
    refuse it, since HAProxy goes past the router of what has a route; but a model's application has none."""
    found = RequestRouterConfig(request_router_class=path)  # takes the class itself along
    found.request_router_class = RequestRouterConfig().request_router_class
    return found


_LIKE_TO_LIKE = routed_by("deployments.routing.LikeToLikeRouter")
_LEAST_BUSY = routed_by("deployments.routing.LeastBusyRouter")
_LOOK_S = 0.5
_COMMON: dict[str, Any] = {
    # Serve's own cap on what a replica may hold; our queues refuse earlier, with a clear answer.
    "max_ongoing_requests": 8192,
    "graceful_shutdown_timeout_s": 10,
    # A process that ended is missed within a second or two, not after Serve's ten.
    "health_check_period_s": 1,
    "health_check_timeout_s": 5,
}


def _common(config: Config) -> dict[str, Any]:
    # Serve's line per request costs 4% of a small model's throughput, and it makes each even where it is not
    # written, as long as the level asks for it; ours are written a moment later (`logs`).
    logging: dict[str, Any] = {"enable_access_log": False, "log_level": "WARNING"}
    if config.logs.folder is not None:
        logging["logs_dir"] = config.logs.folder
    return {**_COMMON, "logging_config": logging}


def gateway(config: Config, per_node: int | None = None) -> Application:
    """The application at route "/": every model of a pinned configuration behind one ingress, at most
    `per_node` gateways on a node."""
    is_scaled = any(entry.autoscaling for entry in config.models.values())
    deployment = serve.deployment(
        name="Gateway",
        **(
            {"autoscaling_config": gateways_config(config.gateways)}
            if is_scaled
            else {"num_replicas": config.gateways}
        ),
        ray_actor_options={"num_cpus": 1},
        max_replicas_per_node=per_node,
        **_common(config),
    )(serve.ingress()(Gateway))
    return deployment.bind(_document(config))


def monitor(config: Config) -> Application:
    """The application without a route that drives rollouts, of one process. It takes no CPU of those that
    nodes were sized for, so Ray may put it on any node; where it cannot read the repository it gives up."""
    deployment = serve.deployment(
        name="Monitor", num_replicas=1, ray_actor_options={"num_cpus": 0}, **_common(config)
    )
    return deployment(Monitor).bind(_document(config))


def model(config: Config, name: str, version: str) -> Application:
    """The application without a route that holds one version's replicas: with placement "replicas", or of a
    candidate, of which there are as many as gateways where the stable version runs in those."""
    entry = config.models[name]
    replicas = entry.replicas if entry.placement == "replicas" else config.gateways
    manifest = Repository(Path(config.repository)).manifest(name, version)
    setup = setup_of(entry, manifest, instances_of(config, entry), cpu_cores())
    scaling = entry.autoscaling and replicas_config(entry.autoscaling, known_cost(manifest, setup))
    deployment = serve.deployment(
        name="Model",
        **({"autoscaling_config": scaling} if scaling else {"num_replicas": replicas}),
        ray_actor_options={"num_cpus": setup.cores, "num_gpus": entry.num_gpus},
        request_router_config=_LIKE_TO_LIKE if entry.affinity else _LEAST_BUSY,
        **_common(config),
    )(ModelReplica)
    return deployment.bind(_document(config), name, version)


def _document(config: Config) -> dict[str, Any]:
    """What is given, and only that: the rest is decided for each version, by its manifest."""
    return config.model_dump(exclude_unset=True)


def pinned(config: Config) -> Config:
    """The same configuration with every version and the number of gateways named, so that all replicas
    serve the same ones. ConfigRejected when a version cannot be served as the configuration says."""
    repository = Repository(Path(config.repository))
    models = {
        name: entry.model_copy(update={"versions": chosen_versions(repository, name, entry)})
        for name, entry in config.models.items()
    }
    answering = {name: repository.manifest(name, entry.versions[-1]) for name, entry in models.items()}
    gateways = gateways_of(config, answering, cpu_cores())
    config = config.model_copy(update={"models": models, "gateways": gateways})
    setups(config)
    pipelines(config)
    declared(config)
    return config


def declared(config: Config) -> None:
    """ConfigRejected when a pinned configuration declares of answers what does not hold for its versions.

    Where a rollout has chosen the version that answers, the cheaper one need not be good enough beside it:
    then each gateway goes without.
    """
    repository = Repository(Path(config.repository))
    for name, entry in config.models.items():
        had_rollout = Store(repository.root).stamp(name) is not None
        cheaper = None
        if entry.overload is not None and not had_rollout:
            cheaper = repository.manifest(name, entry.overload.version)
        check_declared(entry, repository.manifest(name, entry.versions[-1]), cheaper)


def pipelines(config: Config) -> dict[str, Step]:
    """What each pipeline of a pinned configuration is; ConfigRejected when its steps do not fit together."""
    repository = Repository(Path(config.repository))

    def step(name: str) -> Step:
        manifest = repository.manifest(name, config.models[name].versions[-1])
        return Step(name, manifest.version, digest_of(manifest), manifest.signature)

    return {
        name: joined(name, [step(model) for model in entry.steps]) for name, entry in config.pipelines.items()
    }


def setups(config: Config) -> dict[str, dict[str, Setup]]:
    """How each version of a pinned configuration runs on a machine like this one."""
    repository = Repository(Path(config.repository))
    return {
        name: {
            version: setup_of(
                entry, repository.manifest(name, version), instances_of(config, entry), cpu_cores()
            )
            for version in entry.versions
        }
        for name, entry in config.models.items()
    }


def deploy(config: Config) -> None:
    """Run or update all applications on the cluster this process is connected to, replicas first.

    Applications of a former configuration that are not wanted any more are deleted last.
    """
    config = pinned(config)
    wanted = {GATEWAY_APP, MONITOR_APP}
    with telling():
        for name, entry in config.models.items():
            versions = entry.versions if entry.placement == "replicas" else []
            for version in versions:
                _run_replicas(model(config, name, version), app_name(name, version))
            others = [version for version in candidates(config, name) if version not in versions]
            for version in others:  # not waited for: they may be broken
                start_model(config, name, version)
            wanted |= {app_name(name, version) for version in [*versions, *others]}
        per_node = gateways_per_node(config.gateways, capacities(GATEWAY_APP))
        try:
            serve.run(gateway(config, per_node), name=GATEWAY_APP, route_prefix="/")
        except TimeoutError as err:
            raise EngineUnavailable(
                "the gateways run, but a node's front does not answer; the proxy's log there says why, such "
                "as a port that somebody else has"
            ) from err
    _start(monitor(config), MONITOR_APP)
    for name in set(serve.status().applications) - wanted:
        if name.startswith(APP_PREFIX):  # what others run on this cluster is not ours to end
            serve.delete(name)


def _run_replicas(application: Application, name: str) -> None:
    """Run an application without a route until its replicas answer.

    Serve's own waiting asks HAProxy, too, whose gRPC side is not healthy before an application has a
    route: on a busy machine the first of these would wait for that in vain.
    """
    _start(application, name)
    _get_global_client()._wait_for_application_running(name)


def start_model(config: Config, name: str, version: str) -> None:
    """Have the replicas of a version started, not waiting for them."""
    _start(model(config, name, version), app_name(name, version))


def candidates(config: Config, name: str) -> list[str]:
    """The versions of a model that a rollout or a test has under way besides the stable one."""
    try:
        state = Store(Path(config.repository)).read(name)
    except ArtifactRejected:
        return []
    return [] if state is None else list(state.versions[1:])


def _start(application: Application, name: str) -> None:
    target = serve.RunTarget(application, name=name, route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)


def check_size(config: Config, hint: str = "") -> None:
    """ConfigRejected when a replica asks for more than any node of the connected cluster has."""
    config = pinned(config)
    needs = [Need({"CPU": 1.0}, {"CPU": "gateways"})]
    found = setups(config)
    for name, entry in config.models.items():
        if entry.placement == "replicas":
            amounts = {"GPU": entry.num_gpus, "CPU": max(setup.cores for setup in found[name].values())}
            keys = {"GPU": f"models.{name}.num_gpus", "CPU": f"models.{name}.threads"}
            needs.append(Need({key: amount for key, amount in amounts.items() if amount}, keys))
    refuse(needs, rooms(), hint)
    check_memory(config, found)


def num_cpus(config: Config) -> int:
    """The CPUs that the applications of a pinned configuration ask Ray for, a candidate for each model
    among them."""
    found = setups(config)
    asked = config.gateways
    for name, entry in config.models.items():
        each = [setup.instances * setup.cores for setup in found[name].values()]
        asked += (sum(each) if entry.placement == "replicas" else 0) + max(each)
    return asked


def gateway_app(args: dict[str, str]) -> Application:
    """Builder for `serve run deployments.app:gateway_app config=FILE`, `serve deploy` and KubeRay.

    Models with placement "replicas" need their own applications beside it: `model_app`.
    """
    return gateway(pinned(_named_by(args)))


def monitor_app(args: dict[str, str]) -> Application:
    """Builder for `serve run deployments.app:monitor_app config=FILE`, as "headrace-monitor"."""
    return monitor(pinned(_named_by(args)))


def model_app(args: dict[str, str]) -> Application:
    """Builder for `serve run deployments.app:model_app config=FILE model=NAME version=VERSION`.

    The application's name is that of `deployments.gateway.app_name`, "headrace:NAME:VERSION".
    """
    return model(_named_by(args), args["model"], args["version"])


def _named_by(args: dict[str, str]) -> Config:
    """The configuration file in a builder's arguments; for `wait_s` it may be still to come, since to the
    nodes of a cluster the arguments and the file go on different ways."""
    path = Path(args["config"])
    deadline = time.monotonic() + float(args.get("wait_s", 0))
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    return load_config(path)
