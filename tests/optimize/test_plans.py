"""Plans built ahead, by the real TensorRT for RTX."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.artifact import Artifact, Repository
from engines.plans import Plans
from engines.trt_build import CancelledError
from engines.trt_library import RTX, Library, find
from headrace.errors import ConfigRejected, EngineUnavailable
from optimize.plans import Built, build_plans
from optimize.publish import publish_again
from tests.onnx_models import publish_all


@pytest.fixture(scope="module")
def library() -> Library:
    return find(RTX)


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path / "plans")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return publish_all(tmp_path / "models")


@pytest.fixture
def double(repository: Repository) -> Artifact:
    return publish_again(repository, "double/1", "tensorrt", "9")


def built(
    artifact: Artifact, library: Library, plans: Plans, *architectures: str, batch: int = 8
) -> list[Built]:
    return build_plans(artifact, library, plans, architectures, max_batch=batch)


def test_a_plan_for_each_architecture_is_built_once_and_kept(
    double: Artifact, library: Library, plans: Plans
) -> None:
    first = built(double, library, plans, "8.6", "8.9", "8.9")
    assert [each.architecture for each in first] == ["8.6", "8.9"]
    assert all(each.size_bytes > 1000 and each.seconds > 0 for each in first)
    assert len(first[0].profiles) >= 2
    assert [each.seconds for each in built(double, library, plans, "8.6", "8.9")] == [0.0, 0.0]
    assert built(double, library, plans, "8.9", batch=4)[0].seconds > 0  # other batches, another plan


def test_another_graph_has_plans_of_its_own(
    repository: Repository, double: Artifact, library: Library, plans: Plans
) -> None:
    built(double, library, plans, "8.9")
    other = publish_again(repository, "double/2", "tensorrt", "10")
    assert built(other, library, plans, "8.9")[0].seconds > 0


def test_a_version_for_another_engine_is_refused_with_the_way_out(
    repository: Repository, library: Library, plans: Plans
) -> None:
    with pytest.raises(ConfigRejected, match="headrace publish double/1 --engine tensorrt"):
        built(repository.open("double", "1"), library, plans, "8.9")


def test_an_unknown_architecture_is_refused_before_anything_is_built(
    double: Artifact, library: Library, plans: Plans, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnavailable, match=r"'9.0'; it has: 7.5"):
        built(double, library, plans, "8.9", "9.0")
    assert not (tmp_path / "plans").exists()


def test_a_build_that_is_cancelled_leaves_what_was_built(
    double: Artifact, library: Library, plans: Plans
) -> None:
    built(double, library, plans, "8.6")
    with pytest.raises(CancelledError):
        build_plans(double, library, plans, ["8.6", "8.9"], max_batch=8, goes_on=lambda: False)
    assert built(double, library, plans, "8.6")[0].seconds == 0
    assert built(double, library, plans, "8.9")[0].seconds > 0


def test_progress_is_a_line_for_each_build(double: Artifact, library: Library, plans: Plans) -> None:
    class Lines:
        def __init__(self) -> None:
            self.told: list[str] = []

        def add_task(self, description: str, *, total: float | None) -> int:
            self.told.append(description)
            return len(self.told)

        def update(self, task_id: int, *, total: float | None = None, advance: float | None = None) -> None:
            assert task_id <= len(self.told)

    lines = Lines()
    build_plans(double, library, plans, ["8.6", "8.9"], max_batch=8, progress=lines)
    assert lines.told == ["plan for 8.6: building engine", "plan for 8.9: building engine"]
