"""An engine is warm before it is asked, in every shape that it will run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deployments.model import bucket_sizes, known_times
from deployments.setup import setup_of
from engines.load import load
from headrace.config import BatchingConfig, ModelConfig
from headrace.errors import TensorRejected
from headrace.tensors import Array, Signature, TensorMap
from tests.onnx_models import publish_all

BUCKETS = BatchingConfig(grouping="buckets", buckets=[{"length": 8}, {"length": 32}], max_batch=4)


def test_each_bucket_is_run_alone_and_full() -> None:
    wanted = [{"length": length, "batch": rows} for length in (8, 32) for rows in (1, 4)]
    assert bucket_sizes(BUCKETS, ()) == wanted
    assert bucket_sizes(BatchingConfig(grouping="nearest"), ()) == []


def test_what_a_bucket_does_not_name_is_as_in_the_warm_up() -> None:
    found = bucket_sizes(BUCKETS, ({"batch": 8, "width": 3, "length": 5},))
    assert found[0] == {"batch": 1, "width": 3, "length": 8}


class Watched:
    """An engine and the shapes that it ran."""

    def __init__(self, engine: object) -> None:
        self._engine = engine
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        self.shapes.append(batch["x"].shape)
        return self._engine.run(batch, outputs)

    def warm_up(self) -> None:
        self._engine.warm_up()

    @property
    def signature(self) -> Signature:
        return self._engine.signature


def test_the_real_engine_runs_its_buckets_before_it_is_asked(tmp_path: Path) -> None:
    artifact = publish_all(tmp_path).open("double", "1")
    setup = setup_of(ModelConfig(batching=BUCKETS), artifact.manifest, 1, 2)
    engine = Watched(load(artifact, setup.threads))
    service = known_times(engine, artifact, setup)
    assert engine.shapes == [(1, 8), (4, 8), (1, 32), (4, 32)]
    assert service.is_known


class Limited(Watched):
    """One that was built for lengths up to 32."""

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        if batch["x"].shape[1] > 32:
            raise TensorRejected("no profile holds it")
        return super().run(batch, outputs)


def test_examples_that_an_engine_was_not_built_for_are_left_out(tmp_path: Path) -> None:
    artifact = publish_all(tmp_path).open("double", "1")
    sizes = ({"batch": 1, "length": 100}, {"batch": 2, "length": 5})
    artifact = replace(artifact, manifest=artifact.manifest.model_copy(update={"warm_up": sizes}))
    setup = setup_of(ModelConfig(batching=BUCKETS), artifact.manifest, 1, 2)
    engine = Limited(load(publish_all(tmp_path / "other").open("double", "1"), setup.threads))
    assert known_times(engine, artifact, setup).is_known
    assert engine.shapes[0] == (2, 5)
