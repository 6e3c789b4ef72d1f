"""How many nodes a configuration takes, what is pinned, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.k8s.options import Node, Options
from deployments.k8s.plan import CACHE_SECRET, Plan, asks_of, nodes_for, plan_of, without_gpus
from engines.artifact import Repository
from engines.manifest import Machine, Tuned
from headrace.config import parse_config
from headrace.errors import ConfigRejected, NotFound
from tests.deployments.k8s.samples import config
from tests.onnx_models import publish_all

GPU = {"placement": "replicas", "num_gpus": 1.0}
NODE = Node(cpus=4, memory_gib=8, gpus=2)


def plan(models: dict[str, Any], options: Options | None = None, **others: Any) -> Plan:
    return plan_of(config(models, **others), options or Options())


@pytest.mark.parametrize(
    ("asks", "nodes"),
    [
        ([], 0),
        ([(0, 1, 1.0)], 0),
        ([(4, 1, 0)], 1),
        ([(5, 1, 0)], 2),
        ([(4, 1, 0.5)], 1),
        ([(5, 1, 0.5)], 2),
        ([(3, 1, 2.0)], 3),
        ([(2, 3, 0.5)], 2),  # the CPUs decide
        ([(2, 1, 1.0), (2, 1, 0)], 1),  # what needs no GPU goes where CPUs are left
        ([(10, 1, 0.1)], 3),  # ten tenths are one GPU, whatever floats make of them: CPUs for four on a node
        ([(1, 1, 2.0), (2, 1, 1.0)], 2),
    ],
)
def test_as_many_nodes_as_the_replicas_fill(asks: list[tuple[int, int, float]], nodes: int) -> None:
    assert nodes_for(asks, NODE) == nodes


def test_tenths_of_a_gpu_add_up_to_one() -> None:
    assert nodes_for([(10, 1, 0.1)], Node(cpus=16, memory_gib=8, gpus=1)) == 1


def test_gpu_nodes_follow_the_bounds_of_autoscaling() -> None:
    found = plan({"m": {**GPU, "autoscaling": {"min_replicas": 1, "max_replicas": 4}}})
    assert found.gpu is not None
    assert (found.gpu.least, found.gpu.most) == (1, 5)  # one more while an update goes on


def test_models_that_may_sleep_keep_no_gpu_node() -> None:
    found = plan({"m": {**GPU, "autoscaling": {"min_replicas": 0, "max_replicas": 2}}})
    assert found.gpu is not None
    assert found.gpu.least == 0


def test_a_model_with_a_fixed_number_of_replicas_has_as_many_at_least() -> None:
    found = plan({"m": {**GPU, "replicas": 3}})
    assert found.gpu is not None
    assert found.gpu.least == 3


def test_every_version_has_replicas_of_its_own() -> None:
    found = plan({"m": {**GPU, "versions": ["1", "2"]}})
    assert found.gpu is not None
    assert found.gpu.least == 2


def test_gateways_have_two_nodes_unless_there_is_one_only() -> None:
    assert plan({"m": {}}).cpu.least == 2
    assert plan({"m": {}}, gateways=1).cpu.least == 1
    assert plan({"m": {}}, gateways=9).cpu.least == 3


def test_without_gpus_there_are_no_gpu_nodes() -> None:
    assert plan({"m": {}}).gpu is None


@pytest.mark.parametrize(
    ("models", "others", "options", "told"),
    [
        (
            {"m": {**GPU, "num_gpus": 2.0}},
            {},
            {},
            ["models.m.num_gpus is 2", "up to 1", "--gpus-per-node"],
        ),
        ({"m": {**GPU, "num_gpus": 1.5}}, {}, {}, ["models.m: num_gpus is 1.5", "0 to 1, or a whole number"]),
        ({"m": {"num_gpus": 1.0}}, {}, {}, ["models.m.num_gpus is 1", "placement: replicas"]),
        (
            {"m": {"placement": "replicas", "threads": 5}},
            {},
            {},
            ["models.m.threads is 5", "up to 4", "--cpus-per-node"],
        ),
        ({"m": {**GPU, "threads": 5}}, {}, {}, ["models.m.threads is 5", "--gpu-node-cpus"]),
        (
            {"m": {**GPU, "autoscaling": {"max_replicas": 11}}},
            {},
            {},
            ["11 nodes", "models.m", "10 nodes (--max-nodes)"],
        ),
        ({"m": {}}, {"gateways": 41}, {}, ["gateways", "11 nodes", "--max-nodes"]),
        ({"m": {}}, {"http": {"port": 80}}, {}, ["http.port is 80", "root", "1024"]),
        ({"m": {}}, {"http": {"port": 8265}}, {}, ["http.port is 8265", "Ray's dashboard"]),
        ({"m": {}}, {"http": {"port": 10100}}, {}, ["http.port is 10100", "Ray's workers"]),
        ({"m": {}}, {"grpc": {"port": 30080}}, {}, ["grpc.port is 30080", "Serve's replicas"]),
        (
            {"m": {"versions": []}},
            {},
            {},
            ["models.m.versions is []", "/nowhere", "the versions to serve"],
        ),
        (
            {"m": {}},
            {"cache": {"url": "redis://:hunter2@cache:6379/0"}},
            {},
            ["cache.url", "${NAME}", "Secret"],
        ),
        (
            {"m": {}},
            {"cache": {"url": "redis+sentinel://s/x?sentinel_password=hunter2"}},
            {},
            ["cache.url", "${NAME}"],
        ),
        ({"m": {}}, {"cache": {"url": "unix:///run/valkey.sock"}}, {}, ["cache.url", "socket"]),
    ],
)
def test_what_no_cluster_could_run_is_refused_with_what_is_allowed(
    models: dict[str, Any], others: dict[str, Any], options: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(ConfigRejected) as caught:
        plan(models, Options(**options), **others)
    for words in [*told, "allowed"]:
        assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_cache_is_a_redis_of_its_own_whose_password_is_not_written() -> None:
    found = plan({"m": {}})
    assert found.own_cache
    assert found.config.cache.url == f"redis://:${{{CACHE_SECRET}}}@headrace-cache:6379/0"
    assert found.secrets == [CACHE_SECRET]


def test_a_cache_of_ones_own_is_kept_with_its_secrets() -> None:
    url = "rediss://reader:${OUR_PASSWORD}@cache.example:6379/0"
    found = plan({"m": {}}, cache={"url": url})
    assert not found.own_cache
    assert found.config.cache.url == url
    assert found.secrets == ["OUR_PASSWORD"]


def test_no_cache_needs_no_secret() -> None:
    found = plan({"m": {}}, cache={"enabled": False})
    assert not found.own_cache
    assert found.secrets == []


def test_the_configuration_in_the_pods_says_the_same_but_for_where_things_are() -> None:
    found = plan({"m": {"cache": True}}, gateways=3, http={"port": 8080 + 1})
    back = parse_config(yaml.safe_load(found.text))
    assert back == found.config
    assert back.repository == "/models"
    assert (back.http.host, back.http.port) == ("0.0.0.0", 8081)
    assert back.models["m"].model_fields_set == {"versions", "cache"}  # the rest is still to be decided


def test_another_configuration_has_another_name() -> None:
    assert plan({"m": {}}).file == plan({"m": {}}).file
    assert plan({"m": {}}).file != plan({"m": {"cache": True}}).file


def test_without_gpus_their_models_and_pipelines_are_left_out() -> None:
    full = config(
        {"a": {}, "b": {}, "g": GPU},
        pipelines={"ab": {"steps": ["a", "b"]}, "ag": {"steps": ["a", "g"]}},
    )
    smaller = without_gpus(full)
    assert set(smaller.models) == {"a", "b"}
    assert set(smaller.pipelines) == {"ab"}


def test_versions_are_pinned_from_a_repository_that_is_at_hand(tmp_path: Path) -> None:
    publish_all(tmp_path)
    found = plan_of(parse_config({"repository": str(tmp_path), "models": {"double": {}}}), Options())
    assert found.config.models["double"].versions == ["2"]
    assert found.config.gateways == 2


def test_a_version_that_is_not_in_the_repository_is_refused(tmp_path: Path) -> None:
    publish_all(tmp_path)
    document = {"repository": str(tmp_path), "models": {"double": {"versions": ["7"]}}}
    with pytest.raises(NotFound, match="no version '7'; there are: 1, 2"):
        plan_of(parse_config(document), Options())


def test_steps_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    publish_all(tmp_path)
    document = {
        "repository": str(tmp_path),
        "models": {"words": {}, "double": {}},
        "pipelines": {"both": {"steps": ["words", "double"]}},
    }
    with pytest.raises(ConfigRejected, match="both"):
        plan_of(parse_config(document), Options())


def test_what_was_tuned_for_nodes_like_these_is_decided_here(tmp_path: Path) -> None:
    repository = publish_all(tmp_path)
    tuned_for_four_cores(repository, "far")
    document = {"repository": str(tmp_path), "models": {"far": {"placement": "replicas"}}}
    assert plan_of(parse_config(document), Options()).config.models["far"].threads == 3
    others = Options(cpu_node=Node(cpus=6, memory_gib=8))
    assert plan_of(parse_config(document), others).config.models["far"].threads == 1


def test_a_replica_asks_for_the_cores_of_all_its_batches(tmp_path: Path) -> None:
    repository = publish_all(tmp_path)
    tuned_for_four_cores(repository, "far", permits=4, threads=1)
    document = {"repository": str(tmp_path), "models": {"far": {"placement": "replicas"}}}
    plan = plan_of(parse_config(document), Options())
    assert plan.config.models["far"].cores == 4
    assert [ask.cpus for ask in asks_of(plan.config, Options()) if ask.name == "far"] == [4]
    too_many = {**document, "models": {"far": {"placement": "replicas", "batching": {"permits": 5}}}}
    with pytest.raises(
        ConfigRejected, match="threads is 1 for each of 5 batches; allowed: up to 4, the CPUs"
    ):
        plan_of(parse_config(too_many), Options())


def tuned_for_four_cores(repository: Repository, model: str, permits: int = 1, threads: int = 3) -> None:
    tuned = Tuned(
        instances=1,
        threads=threads,
        permits=permits,
        max_batch=8,
        max_padding=0.1,
        grouping="exact",
        machine=Machine(cpu="some", cores=4),
    )
    repository.set_tuned(repository.open(model, "1"), tuned)
