"""What is not given is as tuned for such a machine, and what is given stays."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.setup import gateways_of, in_words, setup_of
from engines.manifest import BatchLatency, Manifest, make_manifest
from headrace.config import ModelConfig, parse_config
from headrace.errors import ArtifactRejected, ConfigRejected
from headrace.tensors import Signature, TensorSpec

CORES = 4
BUCKETS = ({"length": 8}, {"length": 32})
TUNED: dict[str, Any] = {
    "instances": 2,
    "threads": 2,
    "max_batch": 16,
    "max_padding": 0.1,
    "grouping": "nearest",
    "machine": {"cpu": "some", "cores": CORES},
}


def manifest(pads: bool = True, latencies: tuple[BatchLatency, ...] = (), **tuned: Any) -> Manifest:
    spec = TensorSpec("x", "FP32", ("batch", "length"))
    return make_manifest(
        name="text",
        version="1",
        engine="onnxruntime",
        engine_version="1",
        cpu_flags=(),
        graph="model.onnx",
        signature=Signature((spec,), (spec,)),
        grouping="nearest" if pads else "exact",
        precision="fp32",
        files={"model.onnx": {"sha256": "0" * 64, "size": 1}},
        created="2026-01-01T00:00:00+00:00",
        latencies=latencies,
        tuned={**TUNED, **tuned} if tuned else None,
    )


def model(**entry: Any) -> ModelConfig:
    return parse_config({"models": {"text": entry}}).models["text"]


def test_a_model_that_was_not_tuned_runs_by_default() -> None:
    setup = setup_of(model(), manifest(), 2, CORES)
    assert (setup.threads, setup.batching.max_batch, setup.batching.grouping) == (1, 8, "nearest")
    assert set(setup.origins.values()) == {"default"}
    assert setup.batching.max_queue == 1024  # its own share
    assert "2 x 1 thread, grouping nearest, batches of up to 8, padding up to 10%" in in_words(setup)
    assert setup_of(model(), manifest(pads=False), 2, CORES).batching.grouping == "exact"


def test_a_model_whose_batches_gain_nothing_is_not_padded() -> None:
    row = {"sizes": {"length": 8}, "threads": 1, "low_ms": 1.0, "high_ms": 1.0}
    latencies = tuple(BatchLatency(batch=batch, median_ms=float(batch), **row) for batch in (1, 8))
    setup = setup_of(model(), manifest(latencies=latencies), 2, CORES)
    assert (setup.batching.grouping, setup.origins["grouping"]) == ("exact", "latencies")


def test_what_is_not_given_is_as_tuned() -> None:
    setup = setup_of(model(), manifest(instances=2), 2, CORES)
    assert (setup.threads, setup.batching.max_batch, setup.batching.max_padding) == (2, 16, 0.1)
    assert set(setup.origins.values()) == {"tuned"}
    assert in_words(setup).endswith("(as tuned)")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"threads": 1}, {"threads": 1}),
        ({"batching": {"max_batch": 8}}, {"max_batch": 8}),
        ({"batching": {"max_padding": 0.25}}, {"max_padding": 0.25}),
        ({"batching": {"grouping": "exact"}}, {"grouping": "exact"}),
    ],
)
def test_what_is_given_stays_even_when_it_is_the_default(given: Any, found: dict[str, Any]) -> None:
    setup = setup_of(model(**given), manifest(instances=2), 2, CORES)
    (key, value), *_ = found.items()
    assert setup.told()[key] == value
    others = ["threads", "permits"] if key == "threads" else [key]  # these two divide the cores together
    assert [name for name, origin in setup.origins.items() if origin != "tuned"] == others
    assert setup.origins[key] == "configuration"


def test_batches_at_a_time_are_as_tuned_with_the_threads_or_as_given() -> None:
    tuned = manifest(instances=2, permits=2, threads=1)
    setup = setup_of(model(), tuned, 2, CORES)
    assert (setup.threads, setup.batching.permits, setup.cores) == (1, 2, 2)
    assert in_words(setup).startswith("2 x 2 batches at a time x 1 thread,")
    assert setup_of(model(threads=1), tuned, 2, CORES).batching.permits == 1
    given = setup_of(model(batching={"permits": 3}), tuned, 2, CORES)
    assert (given.batching.permits, given.origins["permits"], given.cores) == (3, "configuration", 3)


def test_batches_on_a_gpu_ask_for_no_more_cores() -> None:
    entry = model(placement="replicas", num_gpus=1, threads=2, batching={"permits": 2})
    assert setup_of(entry, manifest(), 1, CORES).cores == 2


def test_auto_is_not_given() -> None:
    setup = setup_of(model(batching={"grouping": "auto"}), manifest(grouping="exact"), 2, CORES)
    assert setup.batching.grouping == "exact"


def test_another_number_of_cores_is_another_machine() -> None:
    setup = setup_of(model(), manifest(instances=2), 2, 8)
    assert (setup.threads, setup.batching.max_batch) == (1, 8)
    assert "tuned for 4 cores, not for 8: run headrace tune here" in in_words(setup)


def test_threads_are_as_tuned_only_beside_as_many_instances() -> None:
    setup = setup_of(model(), manifest(instances=2), 3, CORES)
    assert (setup.threads, setup.origins["threads"]) == (1, "default")
    assert setup.batching.max_batch == 16


def test_learned_buckets_come_with_their_grouping_and_refuse_nothing() -> None:
    tuned = manifest(grouping="buckets", buckets=BUCKETS)
    for entry in (model(), model(batching={"grouping": "buckets"})):
        setup = setup_of(entry, tuned, 2, CORES)
        assert setup.batching.buckets == [{"length": 8}, {"length": 32}]
        assert setup.batching.oversize == "exact"
    assert "buckets 8 32" in in_words(setup)
    own = setup_of(model(batching={"grouping": "buckets", "buckets": [{"length": 9}]}), tuned, 2, CORES)
    assert (own.batching.buckets, own.batching.oversize) == ([{"length": 9}], "refuse")


def test_buckets_that_are_nowhere_are_asked_for() -> None:
    with pytest.raises(ConfigRejected, match=r"needs buckets, such as .* headrace tune"):
        setup_of(model(batching={"grouping": "buckets"}), manifest(), 2, CORES)


def test_a_tuned_set_up_cannot_lack_its_buckets() -> None:
    with pytest.raises(ArtifactRejected, match="without buckets"):
        make_manifest(**{**dict(manifest()), "tuned": {**TUNED, "grouping": "buckets"}})


@pytest.mark.parametrize(
    ("document", "gateways"),
    [
        ({"models": {"text": {}, "other": {}}}, 3),
        ({"gateways": 1, "models": {"text": {}}}, 1),
        ({"models": {"text": {"threads": 1}}}, 2),
        ({"models": {"text": {"threads": 2}}}, 3),
        ({"models": {"text": {"placement": "replicas"}}}, 2),
        ({"models": {"other": {}}}, 2),
    ],
)
def test_gateways_are_given_or_as_the_tuned_models_want(document: Any, gateways: int) -> None:
    manifests = {"text": manifest(instances=3), "other": manifest()}
    assert gateways_of(parse_config(document), manifests, CORES) == gateways


def test_code_runs_only_where_that_is_said() -> None:
    code = manifest().model_copy(update={"engine": "python"})
    with pytest.raises(ConfigRejected, match="'text' is Python code, which runs in the server: set run_code"):
        setup_of(model(), code, 2, CORES)
    assert setup_of(model(run_code=True), code, 2, CORES).threads == 1


def test_a_model_for_a_gpu_is_not_served_without_one() -> None:
    on_gpu = manifest().model_copy(update={"engine": "tensorrt"})
    with pytest.raises(
        ConfigRejected, match="'text' runs in tensorrt, on a GPU: give it placement: replicas"
    ):
        setup_of(model(), on_gpu, 2, CORES)
    setup = setup_of(model(placement="replicas", num_gpus=0.25), on_gpu, 1, CORES)
    assert (setup.batching.permits, setup.gpu_share, setup.cores) == (2, 0.25, 1)
    given = model(placement="replicas", num_gpus=2, batching={"permits": 3})
    assert setup_of(given, on_gpu, 1, CORES).batching.permits == 3
    assert setup_of(given, on_gpu, 1, CORES).gpu_share == 1.0


def test_a_number_that_follows_the_work_is_told_with_its_bounds() -> None:
    entry = parse_config(
        {"models": {"text": {"placement": "replicas", "autoscaling": {"min_replicas": 0, "max_replicas": 9}}}}
    ).models["text"]
    setup = setup_of(entry, manifest(), entry.max_replicas, CORES)
    assert in_words(setup).startswith("0 to 9 x 1 thread,")
