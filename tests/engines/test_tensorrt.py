"""The engine "tensorrt": what it refuses anywhere; `pytest -m tensorrt` where the library and a GPU are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines import tensorrt
from engines.artifact import Artifact, Repository
from engines.driver import Device, Driver, find_driver
from engines.load import load
from engines.plans import Key, Plans
from engines.tensorrt import TensorRtEngine, plan_of, plans_here, recipe_of
from engines.trt_build import Plan, Recipe
from engines.trt_library import RTX, find
from headrace.errors import ArtifactRejected, EngineUnavailable, TensorRejected
from headrace.tensors import Signature, TensorSpec
from optimize.publish import publish_again
from tests.engines import paper_trt
from tests.engines.paper_gpu import PaperGpu
from tests.onnx_models import publish_all

BUCKETS = [{"length": 64}]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return publish_all(tmp_path / "models")


@pytest.fixture
def double(repository: Repository) -> Artifact:
    return publish_again(repository, "double/1", "tensorrt", "9")


def driver() -> Driver | None:
    try:
        return find_driver()
    except EngineUnavailable:
        return None


@pytest.mark.skipif(driver() is not None, reason="there is a GPU here")
def test_without_a_gpu_it_is_unavailable_and_says_why(double: Artifact) -> None:
    with pytest.raises(EngineUnavailable, match=r"no NVIDIA driver|no GPU"):
        load(double, threads=1, max_batch=4)


def test_text_is_refused(double: Artifact) -> None:
    text = TensorSpec("text", "BYTES", ("batch",))
    manifest = double.manifest.model_copy(update={"signature": Signature((text,), (text,))})
    with pytest.raises(ArtifactRejected, match=r"'double/9' takes or gives text: BYTES, .*for onnxruntime"):
        recipe_of(find(), Artifact(double.folder, manifest, double.digest), "8.9", 4, ())


def test_plans_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_PLANS", str(tmp_path / "here"))
    plans_here().put_timing_cache("library", "8.9", b"times")
    assert (tmp_path / "here").is_dir()
    monkeypatch.delenv("HEADRACE_PLANS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plans_here().put_timing_cache("library", "8.9", b"times")
    assert (tmp_path / "cache" / "headrace" / "plans").is_dir()


def test_from_a_folder_of_others_no_plan_is_taken_and_none_put_there(
    double: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = find(RTX)
    recipe = recipe_of(library, double, "8.9", 4, ())
    folder = tmp_path / "plans"
    key = Key.of(double.digest, recipe, library.in_words, "8.9")
    first = plan_of(library, double, recipe, key, Plans(folder))
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(0o770)
    caplog.clear()
    again = plan_of(library, double, recipe, key, Plans(folder))
    assert len(again) == pytest.approx(len(first), rel=0.1)
    assert {path: path.read_bytes() for path in folder.iterdir()} == kept
    assert "building the plan of double/9 for 8.9 at every start: the folder of built plans" in caplog.text


class OnPaper:
    """TensorRT and its GPU on paper; builds are counted, and the first plans may be of another release."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, release: int) -> None:
        self.gpu = PaperGpu()
        self.library = paper_trt.library(self.gpu)
        self.release = release
        self.builds = 0
        device = Device("GPU on paper", "8.9", 8 << 30)
        monkeypatch.setattr(tensorrt, "find", lambda: self.library)
        monkeypatch.setattr(tensorrt, "find_driver", lambda least: Driver("13.0", (device,)))
        monkeypatch.setattr(tensorrt, "build_plan", self.build)

    def build(self, library: object, artifact: Artifact, recipe: Recipe, *_: object, **__: object) -> Plan:
        self.builds += 1
        self.recipe = recipe
        ranges = [
            ([1, profile.smallest["length"]], [4, profile.largest["length"]]) for profile in recipe.profiles
        ]
        release, self.release = self.release, 1
        return Plan(paper_trt.plan(ranges, release=release), b"", ())


def _key_of(paper: OnPaper, artifact: Artifact) -> Key:
    return Key.of(artifact.digest, paper.recipe, paper.library.in_words, "8.9 GPU on paper")


def test_a_plan_is_built_once_and_one_that_is_refused_once_more(
    double: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paper, plans = OnPaper(monkeypatch, release=1), Plans(tmp_path / "plans")
    for _ in range(2):
        engine = TensorRtEngine(double, 4, BUCKETS, plans=plans, gpu=paper.gpu)
        x = np.ones((3, 5), np.float32)
        np.testing.assert_array_equal(engine.run({"x": x})["y"], x + 1)
        engine.close()
        assert paper.gpu.is_empty()
    assert paper.builds == 1
    paper.release = 0
    plans.put(
        _key_of(paper, double), paper.build(None, double, paper.recipe).data
    )  # as if of another release
    engine = TensorRtEngine(double, 4, BUCKETS, plans=plans, gpu=paper.gpu)
    engine.close()
    assert paper.builds == 3
    assert "(built by another release); a plan is for one kind of GPU and one release: build i" in caplog.text
    assert "this one was kept, and is built anew" in caplog.text


def test_a_plan_that_is_refused_as_it_was_built_is_not_built_again_nor_kept(
    double: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper, plans = OnPaper(monkeypatch, release=0), Plans(tmp_path / "plans")
    with pytest.raises(EngineUnavailable, match="does not take the plan"):
        TensorRtEngine(double, 4, BUCKETS, plans=plans, gpu=paper.gpu)
    assert paper.builds == 1
    assert not list((tmp_path / "plans").glob("*.plan"))
    assert paper.gpu.is_empty()


def test_a_plan_that_cannot_be_kept_runs_all_the_same(
    double: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paper, plans = OnPaper(monkeypatch, release=1), Plans(tmp_path / "plans")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(plans, "put", full)
    engine = TensorRtEngine(double, 4, BUCKETS, plans=plans, gpu=paper.gpu)
    assert engine.run({"x": np.ones((1, 2), np.float32)})["y"].sum() == 4
    engine.close()
    assert "is built, but cannot be kept: No space left on device" in caplog.text


def test_warm_up_leaves_out_what_no_profile_holds(
    double: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper, plans = OnPaper(monkeypatch, release=1), Plans(tmp_path / "plans")
    sizes = ({"batch": 1, "length": 100}, {"batch": 2, "length": 5})
    manifest = double.manifest.model_copy(update={"warm_up": sizes})
    artifact = Artifact(double.folder, manifest, double.digest)
    engine = TensorRtEngine(artifact, 4, BUCKETS, plans=plans, gpu=paper.gpu)
    engine.warm_up()
    assert paper.library.module.engines[-1].contexts[0].shapes == {"x": (2, 5)}
    engine.close()


@pytest.mark.tensorrt
class TestOnAGpu:
    @pytest.fixture(autouse=True)
    def _there_is_one(self) -> None:
        if driver() is None:
            pytest.skip("there is no GPU here")
        pytest.importorskip("pycuda")

    def test_answers_are_those_of_onnxruntime(
        self, double: Artifact, repository: Repository, tmp_path: Path
    ) -> None:
        engine = TensorRtEngine(double, max_batch=4, plans=Plans(tmp_path / "plans"))
        reference = load(repository.open("double", "1"), threads=1)
        engine.warm_up()
        assert engine.inspection is not None
        rng = np.random.default_rng(0)
        for rows, length in ((1, 1), (4, 9), (3, 40), (11, 7)):  # the last in parts
            for _ in range(4):
                batch = {"x": rng.standard_normal((rows, length)).astype(np.float32)}
                for name, wanted in reference.run(batch).items():
                    np.testing.assert_allclose(engine.run(batch)[name], wanted, rtol=1e-3, atol=1e-3)
        engine.close()

    def test_a_length_beyond_the_limit_is_the_callers_mistake(self, double: Artifact, tmp_path: Path) -> None:
        engine = TensorRtEngine(double, max_batch=4, plans=Plans(tmp_path / "plans"))
        with pytest.raises(TensorRejected):
            engine.run({"x": np.ones((1, 100_000), np.float32)})
        engine.close()

    def test_a_plan_is_built_once(self, double: Artifact, tmp_path: Path) -> None:
        plans = Plans(tmp_path / "plans")
        for _ in range(2):
            TensorRtEngine(double, max_batch=4, plans=plans).close()
        assert len(list((tmp_path / "plans").glob("*.plan"))) == 1
