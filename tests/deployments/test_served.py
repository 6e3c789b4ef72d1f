"""Steps one after the other: what each gets, what is remembered, who is told of a mistake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from batching.seen import SizesSeen
from batching.shapes import Sizes
from cache.memory import MemoryCache
from cache.responses import ResponseCache
from deployments.door import Door
from deployments.pipelines import Step, joined
from deployments.recorder import Recorder
from deployments.served import Served, by, one_after_the_other
from headrace.errors import NotCached, Overloaded, TensorRejected
from headrace.requests import CacheMode, InferRequest, Ran, Timings
from headrace.tensors import Signature, TensorMap, TensorSpec
from headrace.trace import Traced

X = np.array([[1.0, 2.0]], np.float32)


class Adds:
    """A backend that adds to its one input, or raises."""

    def __init__(self, given: str, result: str, number: float) -> None:
        self.num_runs = 0
        self.failure: Exception | None = None
        self._names = given, result
        self._number = number

    async def infer(
        self,
        inputs: TensorMap,
        sizes: Sizes,
        outputs: tuple[str, ...],
        deadline: float | None,
        priority: int = 0,
        trace: Traced | None = None,
    ) -> Ran:
        self.num_runs += 1
        if self.failure is not None:
            raise self.failure
        given, result = self._names
        return Ran({result: inputs[given] + np.float32(self._number)}, Timings(0.5, 0.25, 2))

    @property
    def num_waiting_rows(self) -> int:
        return 0

    @property
    def queue_fill(self) -> float:
        return 0.0

    def usual_s(self) -> float:
        return 0.0

    async def close(self) -> None:
        return


def spec(name: str, limit: int = 2) -> TensorSpec:
    return TensorSpec(name, "FP32", ("batch", limit))


def model(name: str, given: str, result: str, number: float, is_cached: bool, version: str = "1") -> Served:
    backend = Adds(given, result, number)
    return Served(
        Step(name, version, f"{name}{version}", Signature((spec(given),), (spec(result),))),
        "test",
        by(backend),
        ResponseCache(MemoryCache(10**6), None, 60) if is_cached else None,
        None,
        Door(1, 1),
        SizesSeen(),
        Recorder(),
        None,
        backend,
    )


def pipeline(*steps: Served, is_cached: bool = False) -> Served:
    return Served(
        joined("all", [step.step for step in steps]),
        "pipeline",
        one_after_the_other(steps),
        ResponseCache(MemoryCache(10**6), None, 60) if is_cached else None,
        None,
        Door(1, 1),
        SizesSeen(),
        Recorder(),
    )


def asked(x: np.ndarray = X, cache: CacheMode = "use", outputs: tuple[str, ...] = ()) -> InferRequest:
    return InferRequest("all", {"x": x}, outputs=outputs, cache=cache)


def runs(served: Served) -> int:
    assert isinstance(served.backend, Adds)
    return served.backend.num_runs


@pytest.fixture
def body() -> Served:
    return model("body", "x", "h", 10, is_cached=True)


@pytest.fixture
def head() -> Callable[[float], Served]:
    return lambda number: model("head", "h", "y", number, is_cached=False)


async def test_each_step_takes_what_the_one_before_gives(
    body: Served, head: Callable[[float], Served]
) -> None:
    ran = await pipeline(body, head(100)).infer(asked(), None)
    assert ran.outputs["y"].tolist() == [[111, 112]]
    assert list(ran.outputs) == ["y"]
    assert ran.timings == Timings(1.0, 0.5, 2, steps=(("body", "miss"), ("head", "off")))


async def test_a_second_head_reuses_what_the_backbone_gave(
    body: Served, head: Callable[[float], Served]
) -> None:
    first, second = pipeline(body, head(100)), pipeline(body, head(200))
    await first.infer(asked(), None)
    ran = await second.infer(asked(), None)
    assert ran.outputs["y"].tolist() == [[211, 212]]
    assert ran.timings.steps == (("body", "memory"), ("head", "off"))
    assert runs(body) == 1


async def test_a_pipeline_may_remember_for_itself(body: Served, head: Callable[[float], Served]) -> None:
    last = head(100)
    whole = pipeline(body, last, is_cached=True)
    await whole.infer(asked(), None)
    ran = await whole.infer(asked(), None)
    assert ran.timings.tier == "memory"
    assert ran.timings.saved_s == 0.25 / 2 * 2
    assert (runs(body), runs(last)) == (1, 1)


async def test_bypass_and_only_hold_for_every_step(body: Served, head: Callable[[float], Served]) -> None:
    whole = pipeline(body, head(100))
    with pytest.raises(NotCached):
        await whole.infer(asked(cache="only"), None)
    await whole.infer(asked(cache="bypass"), None)
    await whole.infer(asked(cache="bypass"), None)
    assert runs(body) == 2
    await whole.infer(asked(), None)
    with pytest.raises(NotCached, match="answers of model 'head' are not remembered"):
        await whole.infer(asked(cache="only"), None)


async def test_what_a_step_cannot_take_is_the_callers_mistake_with_the_steps_name(
    body: Served, head: Callable[[float], Served]
) -> None:
    last = head(100)
    assert isinstance(last.backend, Adds)
    last.backend.failure = TensorRejected("too long")
    with pytest.raises(TensorRejected, match="step 'head': too long"):
        await pipeline(body, last).infer(asked(), None)
    last.backend.failure = Overloaded("full", 3.0)
    with pytest.raises(Overloaded) as caught:
        await pipeline(body, last).infer(asked(), None)
    assert caught.value.retry_after_s == 3.0


async def test_inputs_are_checked_before_anything_runs(body: Served, head: Callable[[float], Served]) -> None:
    with pytest.raises(TensorRejected, match="input 'x' is FP64"):
        await pipeline(body, head(1)).infer(asked(X.astype(np.float64)), None)
    with pytest.raises(TensorRejected, match="unknown output 'h'"):
        await pipeline(body, head(1)).infer(asked(outputs=("h",)), None)
    assert runs(body) == 0
