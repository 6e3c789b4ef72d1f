"""The live figures: what gateways and replicas tell of themselves, added up by the monitor."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any, Literal, Protocol

import orjson
import ray
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments import metrics
from deployments.everyone import ask_all_async
from deployments.known import Known
from deployments.versions import APP_PREFIX, MONITOR_APP
from headrace import __version__
from headrace.errors import EngineUnavailable
from headrace.metrics import (
    BATCH_ELEMENTS,
    BATCH_ROWS,
    BATCH_SERVICE,
    BATCH_WAIT,
    BATCHES,
    BUILD,
    GPU_MEMORY,
    GPU_UTILIZATION,
    LATENCY,
    PROCESS_CPU,
    PROCESS_MEMORY,
    QUEUE_AGE,
    QUEUE_FILL,
    ROLLOUT,
    ROWS,
)
from monitoring.document import document, percentiles
from monitoring.history import History
from monitoring.process import Watch
from monitoring.recorder import Seconds
from monitoring.slots import Named
from monitoring.stages import STAGES
from monitoring.told import Told, Versions, Waiting

_log = logging.getLogger(__name__)
_ASK_S = 1.0  # between two rounds
_ANSWER_S = 2.0  # of each process; one that is silent longer is told as a problem, and asked again
_HAND_OUT_S = 3.0  # likewise of the monitor
_OLD_S = 15.0  # figures of this age are none
_FRESH_S = 0.5  # an answer of the monitor is good for so long
_QUANTILES = ("0.5", "0.95", "0.99")
_ALL = "all"  # stages together


class Queue(Protocol):
    @property
    def num_waiting_rows(self) -> int: ...

    @property
    def queue_fill(self) -> float: ...

    def oldest_s(self) -> float: ...


class Teller:
    """What this process has to tell; `queues` are by model and version."""

    def __init__(
        self,
        id: str,
        kind: Literal["gateway", "replica", "monitor"],
        queues: Mapping[Named, Queue],
        named: Named = ("", ""),
    ) -> None:
        self.seconds = Seconds()
        self._id = id
        self._kind = kind
        self._queues = queues
        self._named = named
        self._reported = 0  # the last second of which Prometheus has been told
        context = ray.get_runtime_context()
        gpus = tuple(int(gpu) for gpu in context.get_accelerator_ids().get("GPU", []) if gpu.isdecimal())
        self._watch = Watch(ray.util.get_node_ip_address(), gpus)

    def told(self, since: int, **others: Any) -> Told:
        """All from a second (Unix time) on; `others` are fields of Told that only a gateway knows."""
        now = time.time()
        waiting = {
            named: Waiting(queue.num_waiting_rows, queue.oldest_s()) for named, queue in self._queues.items()
        }
        slots = self.seconds.since(since, now)
        process = self._watch.look()
        return Told(self._id, self._kind, now, slots, waiting, process, *self._named, **others)

    async def report(self, shares: Callable[[], Mapping[Named, float]] | None = None) -> None:
        """Hand over what was noted to Prometheus, and each second what is known of this process, until
        cancelled."""
        metrics.gauge(BUILD, 1, (__version__, ray.__version__, metadata.version("onnxruntime")))
        tick = lambda: self.seconds.tick(time.time())  # noqa: E731 - an argument
        await metrics.report(self._queues, shares or dict, tick, self._each_second)

    def _each_second(self) -> None:
        self._report_whole_seconds()
        process = self._watch.look()
        metrics.gauge(PROCESS_CPU, process.cpu)
        metrics.gauge(PROCESS_MEMORY, process.memory_bytes)
        for gpu in process.gpus:
            metrics.gauge(GPU_UTILIZATION, gpu.utilization, (str(gpu.index),))
            metrics.gauge(GPU_MEMORY, gpu.memory_bytes, (str(gpu.index),))
        for named, queue in self._queues.items():
            metrics.gauge(QUEUE_AGE, queue.oldest_s(), named)
            metrics.gauge(QUEUE_FILL, queue.queue_fill, named)

    def _report_whole_seconds(self) -> None:
        for second, slot in self.seconds.since(self._reported + 1, time.time()).items():
            self._reported = max(self._reported, second)
            for named, answers in slot.answers.items():
                if answers.rows:
                    metrics.count(ROWS, named, answers.rows)
            for group, batches in slot.batches.items():
                for spec, number in (
                    (BATCHES, batches.count),
                    (BATCH_ROWS, batches.rows),
                    (BATCH_WAIT, batches.wait_s),
                    (BATCH_SERVICE, batches.engine_s),
                ):
                    metrics.count(spec, group, number)
                metrics.count(BATCH_ELEMENTS, (*group, "useful"), batches.useful)
                metrics.count(BATCH_ELEMENTS, (*group, "padding"), batches.elements - batches.useful)


class Figures:
    """In the monitor: asks every process each second, and has the document ready for whoever asks."""

    def __init__(self, gateways: DeploymentHandle, known: Known, teller: Teller) -> None:
        self._gateways = gateways
        self._known = known
        self._teller = teller
        self._history = History()
        self._document = b""
        self._at = 0.0
        self._models: dict[str, DeploymentHandle] = {}  # by application; each has a router of its own
        self._reported: set[tuple[str, ...]] = set()  # labels of percentiles
        self._versions_seen: set[Named] = set()

    async def document(self) -> bytes:
        """As JSON; EngineUnavailable before the first round, and when they could not be had for long."""
        if not self._document:
            raise EngineUnavailable("the figures are not there yet; try again in a second")
        if time.time() - self._at > _OLD_S:
            raise EngineUnavailable("the figures are out of date: the monitor cannot gather them now")
        return self._document

    async def watch(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._round()
            except Exception:  # nothing that happens to one round may end the watch
                _log.exception("the figures could not be gathered")
            await asyncio.sleep(max(0.1, _ASK_S - (loop.time() - began)))

    async def _round(self) -> None:
        now = time.time()
        since = self._history.since(now)
        problems: list[str] = []
        told, failed = await _ask(self._gateways, "figures_since", since)
        if failed:
            problems.append(_silent(failed, "gateway"))
        elif not told:
            problems.append("no gateway answers")
        named = {name for one in told for name in one.applications}
        if failed or not told:  # who is silent may use others
            named |= self._models.keys()
        applications = sorted(named)
        self._models = {
            name: self._models.get(name) or DeploymentHandle("Model", name) for name in applications
        }
        asked = [_ask(handle, "figures_since", since) for handle in self._models.values()]
        for name, (answers, failed) in zip(applications, await asyncio.gather(*asked), strict=True):
            told += answers
            if failed:
                problems.append(_silent(failed, "replica", f" of {name.removeprefix(APP_PREFIX)}"))
        self._history.take(told, now)
        told.append(self._teller.told(since))
        models = dict(await asyncio.to_thread(self._known.versions))
        problems += self._known.problems()
        for name, version in [each for one in told for each in one.stable.items()]:
            if name in models and not models[name].stable:  # a pipeline: its steps say which it is
                models[name] = replace(models[name], stable=version, shares={version: 1.0})
        found = document(__version__, now, told, self._history, models, problems)
        self._document, self._at = orjson.dumps(found), now
        self._report_latencies()
        self._report_rollouts(models)

    def _report_rollouts(self, models: Mapping[str, Versions]) -> None:
        """Which versions are being tried, for Prometheus."""
        now = {
            (name, version): version == known.candidate or version in known.variants
            for name, known in models.items()
            for version in {known.stable, *known.shares, known.candidate, *known.variants} - {""}
        }
        for named in self._versions_seen - now.keys():
            metrics.gauge(ROLLOUT, 0.0, named)
        for named, is_tried in now.items():
            metrics.gauge(ROLLOUT, float(is_tried), named)
        self._versions_seen |= now.keys()

    def _report_latencies(self) -> None:
        """Percentiles over all gateways, for Prometheus. A gauge keeps its value until it is told another."""
        whole, _ = self._history.window()
        seen: set[tuple[str, ...]] = set()
        for (model, version), answers in whole.answers.items():
            if not answers.count:
                continue
            for stage, sketch in ((_ALL, answers.latency), *zip(STAGES, answers.stages, strict=True)):
                for quantile, value in zip(_QUANTILES, percentiles(sketch).values(), strict=True):
                    labels: tuple[str, ...] = (model, version, stage, quantile)
                    metrics.gauge(LATENCY, value, labels)
                    seen.add(labels)
        for labels in self._reported - seen:
            metrics.gauge(LATENCY, float("nan"), labels)
        self._reported |= seen


def _silent(count: int, kind: str, of: str = "") -> str:
    return f"a {kind}{of} does not answer" if count == 1 else f"{count} {kind}s{of} do not answer"


async def _ask(handle: DeploymentHandle, method: str, since: int) -> tuple[list[Told], int]:
    """What those tell who answer, and how many do not."""
    try:
        answers = await ask_all_async(handle, method, since, timeout_s=_ANSWER_S)
    except DeploymentUnavailableError:  # it has no replicas: it sleeps
        return [], 0
    except Exception as err:  # none of them, no controller: such passes
        _log.warning(f"the figures of {handle.deployment_name} cannot be had: {type(err).__name__}: {err}")
        return [], 1
    told = [one for one in answers if isinstance(one, Told)]
    return told, len(answers) - len(told)


class Feed:
    """In a gateway: the monitor's document, asked for once however many look at it."""

    def __init__(self) -> None:
        self._monitor = DeploymentHandle("Monitor", MONITOR_APP)
        self._document = b""
        self._at = float("-inf")
        self._asking: asyncio.Task[bytes] | None = None

    async def document(self) -> bytes:
        """The latest one as JSON, at most half a second old; EngineUnavailable when the monitor is away."""
        if asyncio.get_running_loop().time() - self._at < _FRESH_S:
            return self._document
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bytes:
        try:
            async with asyncio.timeout(_HAND_OUT_S):
                self._document = await self._monitor.figures.remote()
        except EngineUnavailable:
            raise
        except Exception as err:
            raise EngineUnavailable(
                "the monitor does not answer now, so there are no figures; try again in some seconds"
            ) from err
        finally:
            self._asking = None
        self._at = asyncio.get_running_loop().time()
        return self._document
