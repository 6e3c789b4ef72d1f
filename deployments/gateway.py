"""The one ingress: HTTP, gRPC and handle calls all become Gateway.infer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments import cycle, metrics, overload, profiled
from deployments.accounts import Accounts
from deployments.arguments import Headers, request_of
from deployments.autoscale import told
from deployments.backends import Backend
from deployments.caller import ClientLeftError
from deployments.control import Control
from deployments.dashboard import Dashboard
from deployments.door import Door
from deployments.feedback import Feedback, Found, ask
from deployments.figures import Feed, Teller
from deployments.follower import Follower
from deployments.grpc import GrpcApp, GrpcMethods
from deployments.http import HttpApp
from deployments.logs import RequestLog, set_up, whereabouts
from deployments.models import Models
from deployments.monitor import tell
from deployments.opener import Opener
from deployments.recorder import Recorder, Row
from deployments.remembered import CacheMethods, Remembered
from deployments.served import Served
from deployments.shadow import Shadow
from deployments.tracing import open_tracing, report_losses
from deployments.traffic import Traffic
from deployments.versions import GATEWAY_APP
from deployments.viewers import Viewers
from deployments.watch import settle_memory, watch
from engines.artifact import Repository
from headrace.config import Config
from headrace.errors import EngineFailed, EngineUnavailable, HeadraceError, NotFound, Overloaded
from headrace.metrics import ERRORS, FEEDBACK, FEEDBACK_RIGHT, REQUEST_LATENCY
from headrace.requests import CacheMode, InferRequest, InferResponse, Ran, Truth, Variant, Verdict
from headrace.tensors import Array
from headrace.trace import PARENT
from monitoring.stages import Spent, stages_of
from monitoring.told import Told
from protocol.feedback import truth_of
from rollout.evidence import Slots
from rollout.noted import Noted
from rollout.store import Store


class Gateway(GrpcMethods, CacheMethods):
    """Answers requests for every configured model, from the cache or from its backend."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it: ready means loaded and warm
        self, config: dict[str, Any]
    ) -> None:
        cycle.install()
        self._config = Config.model_validate(config)
        if not self._config.monitoring:
            metrics.turn_off()
        log = RequestLog(self._config.logs, set_up(self._config.logs, "gateway"), whereabouts("gateway"))
        tracing = open_tracing(self._config.tracing, "gateway")
        self.accounts = Accounts(tracing, log)
        self.accounts.start()
        self._headers = Headers(self._config.cache.tenant_header, self._config.rollouts.caller_header)
        self.grpc = GrpcApp(self, self._config.limits, self._headers)
        self.id = uuid.uuid4().hex[:12]
        self.remembered = Remembered(self._config.cache)
        self._recorder = Recorder()
        self._noted = Noted()
        queues: dict[tuple[str, str], Backend] = {}
        self._teller = Teller(self.id, "gateway", queues)
        self._feed = Feed()
        self._shadow = Shadow(self._noted, self._teller.seconds)
        asked = {name: model.feedback for name, model in self._config.models.items() if model.feedback}
        self._feedback = Feedback(asked, self._judged, ask if self._config.gateways > 1 else None)
        self._repository = Repository(Path(self._config.repository))
        self._opener = Opener(
            self._config,
            self._repository,
            self.remembered,
            self._recorder,
            self._teller.seconds,
            queues,
            tracing,
        )
        self._models = Models(self._config, self._repository, self._opener)
        await self._models.open()
        self.remembered.by(self._models.all_served)
        self.dashboard = Dashboard(self._config, self._repository, Viewers(self.figures))
        self.control = Control(self._config, self._repository, self._tell)
        self._follower = Follower(Store(self._repository.root), self._models)
        await self._follower.look()
        await self._follower.ready()
        self._tasks = [
            asyncio.create_task(self._teller.report(self._models.shares)),
            asyncio.create_task(watch(self._opener.hosts)),
            asyncio.create_task(self._follower.watch()),
            asyncio.create_task(report_losses(tracing, log)),
        ]
        if (coherence := self.remembered.coherence()) is not None:
            self._tasks.append(asyncio.create_task(coherence.watch()))
        settle_memory()

    async def __del__(self) -> None:
        """Serve awaits this when the replica stops: answer what was accepted, write what is to be kept."""
        for task in self._tasks:
            task.cancel()
        await self._shadow.close()
        await asyncio.gather(*(served.close() for served in self._models.all_served()))
        await asyncio.to_thread(self.accounts.close)

    def __serve_build_asgi_app__(self) -> HttpApp:
        return HttpApp(self, self._config.limits, self._headers)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        version: str | None = None,
        outputs: tuple[str, ...] = (),
        timeout_s: float | None = None,
        cache: CacheMode = "use",
        tenant: str = "",
        priority: int = 0,
        caller: str = "",
        id: str = "",
        trace: str = "",
    ) -> dict[str, Array]:
        """The output arrays of `model` for `inputs`, by name: arrays in, arrays out, nothing of ours.

        `outputs` names the wanted ones (none: all), `timeout_s` is in seconds (0: no limit), `priority`
        1 goes first and larger numbers later (0: the default level). `caller` names who asks: during a
        rollout the same one gets the same version. `id` names the request, for `feedback`. `trace` is the
        caller's span as W3C's `traceparent` has it; what is malformed counts as none.

        Raises the errors of headrace.errors; through a handle they arrive as a RayTaskError
        that is an instance of the original's class, too.
        """
        began = time.monotonic()
        asked = self.accounts.asked("handle", [(PARENT, str(trace))], began, str(id))
        with self.telling(InferRequest(str(model), {}, asked=asked)):
            request = request_of(
                model, inputs, version, outputs, timeout_s, cache, tenant, priority, caller, id, asked
            )
        response = await self.answer(request)
        answer_s = time.monotonic() - began
        self.answered(request, response, answer_s, stages_of(response.timings, answer_s))
        return dict(response.outputs)

    def answered(self, request: InferRequest, response: InferResponse, total_s: float, spent: Spent) -> None:
        """A caller has got its answer, `total_s` after it asked."""
        self.accounts.answered(request, response, total_s, spent)
        if not self._config.monitoring:
            return
        timings, named = response.timings, (response.model, response.version)
        self._teller.seconds.answered(named, timings.tier, request.rows, timings.saved_s, spent, total_s)

    async def figures(self) -> bytes:
        """The live figures of all models and processes, as JSON; EngineUnavailable when there are none."""
        if not self._config.monitoring:
            raise NotFound("nothing is measured here: the configuration says monitoring: false")
        return await self._feed.document()

    async def figures_since(self, since: int) -> Told:
        """For the monitor: what this gateway saw from a second (Unix time) on."""
        return self._teller.told(
            since,
            cache=await self.remembered.told(),
            applications=tuple(self._opener.replicas),
            stable={name: traffic.stable for name, traffic in self._models.traffics.items()},
        )

    async def answer(self, request: InferRequest) -> InferResponse:
        """The answer to a decoded request, counted and timed."""
        request = self._feedback.named(request)
        loop = asyncio.get_running_loop()
        started = loop.time()
        version = request.version or ""
        variant: Variant = ""
        try:
            traffic = self._models.traffic(request.model)
            served = traffic.choose(request.version, request.caller)
            version = served.version
            if version != traffic.stable and request.version is None:
                variant = "candidate"
            chosen = served
            try:
                served, ran = await self._ran(traffic, chosen, request, started)
            except (EngineFailed, EngineUnavailable) as err:
                if not variant:
                    raise
                self.count_error(err, request.model, version)
                chosen, variant = traffic.answering, "fallback"  # no caller is to pay for our trial
                version = chosen.version
                served, ran = await self._ran(traffic, chosen, request, started)
            if served is not chosen:
                version, variant = served.version, "cheaper"
        except BaseException as err:
            self.failed(err, request, version)
            raise
        if not variant and (candidate := traffic.chooser.copies_to()) is not None:
            rules = self._config.models[request.model].answers
            timeout_s = request.timeout_s or served.timeout_s
            self._shadow.copy(request, traffic.find(candidate), ran.outputs, timeout_s, rules)
        outputs = {name: ran.outputs[name] for name in request.outputs} if request.outputs else ran.outputs
        metrics.observe(REQUEST_LATENCY, loop.time() - started, (request.model, version))
        response = InferResponse(request.model, version, outputs, request.id, ran.timings, variant)
        self._feedback.note(request, response, served.signature)
        return response

    async def _ran(
        self, traffic: Traffic, served: Served, request: InferRequest, started: float
    ) -> tuple[Served, Ran]:
        """What a version answers, or a cheaper one in its stead, noted as evidence for or against it."""
        begun = asyncio.get_running_loop().time()
        try:
            with traffic.using(served):
                answering, ran = await self._at_the_door(traffic, served, request, started)
        except HeadraceError as err:
            self._noted.failed(request.model, served.version, time.time(), err)
            raise
        took_s = asyncio.get_running_loop().time() - begun
        if answering is not served:  # it refused, and another one had to answer
            self._noted.failed(request.model, served.version, time.time(), Overloaded("refused"))
        self._noted.answered(request.model, answering.version, time.time(), took_s, ran, request.rows)
        return answering, ran

    async def _at_the_door(
        self, traffic: Traffic, served: Served, request: InferRequest, started: float
    ) -> tuple[Served, Ran]:
        door = traffic.door_for(request.version)
        cheaper = traffic.cheaper(served) if request.version is None else None
        timeout_s = request.timeout_s or served.timeout_s
        door.came(started, timeout_s)
        try:
            deadline = started + timeout_s if timeout_s else None
            return await overload.infer(served, cheaper, request, deadline)
        except Overloaded as err:
            door.refused(started, err.retry_after_s, timeout_s)
            raise
        finally:
            door.left()

    def find(self, model: str, version: str | None = None) -> Served:
        """A version by its name, else the stable one; NotFound lists what is served."""
        return self._models.traffic(model).find(version)

    def door_of(self, model: str, version: str | None = None) -> Door:
        """Where requests for a model come in, or for a version by its name."""
        return self._models.traffic(model).door_for(version)

    def turned_away(self, model: str, version: str | None, requests: int) -> None:
        """So many were refused on their way here, which more replicas would have answered."""
        traffic = self._models.traffic(model)
        traffic.turned_away(version, requests)
        self.count_error(Overloaded(""), model, version or traffic.stable, requests)

    def versions(self, model: str) -> list[str]:
        return self._models.traffic(model).versions()

    def models(self) -> dict[str, list[str]]:
        """The served versions of each model, the stable one last."""
        return {model: traffic.versions() for model, traffic in self._models.traffics.items()}

    def setups(self) -> dict[str, dict[str, dict[str, Any]]]:
        """How each served version runs, and where that came from."""
        return {
            name: {
                version: served.setup.told()
                for version, served in self._models.traffics[name].ready.items()
                if served.setup
            }
            for name in self._config.models
        }

    async def follow(self) -> None:
        """Look at once what the repository says of versions."""
        await self._follower.look()

    async def _tell(self) -> None:
        """Have all gateways look, this one first."""
        await self.follow()
        await tell(DeploymentHandle("Gateway", GATEWAY_APP))

    async def seen(self, since: Mapping[str, int]) -> dict[str, Any]:
        """For the monitor: which states this gateway follows, and what it saw of these models since these
        seconds."""
        slots: dict[str, Slots] = {model: self._noted.since(model, second) for model, second in since.items()}
        states = {name: self._models.traffics[name].told() for name in self._config.models}
        told = {"gateway": self.id, "now": time.time(), "states": states, "slots": slots}
        return {**told, "applications": list(self._opener.replicas)}

    async def rollout(self, action: str, model: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """What `headrace rollout` and the admin API ask for; see deployments.control."""
        return await self.control.act(action, model, arguments or {})

    async def feedback(
        self, model: str, id: str, label: object = None, right: object = None, tenant: str = ""
    ) -> dict[str, Any]:
        """Tell what would have been the right answer to the request `id` (`label`, for each row), or how
        right the given one was (`right`, 0 to 1): "model_version" and "right" of what was judged.

        Each answer is judged once: Conflict afterwards. NotFound when no gateway knows it any more.
        """
        (told,) = await self.judge(model, tenant, [truth_of(id, label, right)])
        if isinstance(told, HeadraceError):
            raise told
        return {"model_version": told.version, "right": told.right}

    async def judge(self, model: str, tenant: str, truths: list[Truth]) -> list[Verdict | HeadraceError]:
        """The same for many; each has its verdict or its error."""
        self._models.traffic(model)
        return await self._feedback.judge(model, tenant, truths)

    async def judge_here(self, model: str, tenant: str, truths: list[Truth]) -> list[Found]:
        """The same of the answers that this gateway has given, for the others; None: not known here."""
        return self._feedback.judge_here(model, tenant, truths)

    def _judged(self, model: str, version: str, right: float) -> None:
        self._noted.judged(model, version, time.time(), right)
        self._teller.seconds.judged((model, version), right)
        metrics.count(FEEDBACK, (model, version))
        if right:
            metrics.count(FEEDBACK_RIGHT, (model, version), right)

    def shapes(self, model: str, version: str | None = None) -> list[dict[str, Any]]:
        """The sizes of the requests that this gateway has had computed, each with its count of rows."""
        return self.find(model, version).seen.told()

    def kept_inputs(self, model: str, version: str | None = None) -> list[dict[str, Array]]:
        """Some of the inputs that this gateway has had computed of late; NotFound where none are kept."""
        served = self.find(model, version)
        if served.sample is None:
            raise NotFound(f"no inputs of model {model!r} are kept; set models.{model}.keep_inputs: 500")
        return served.sample.kept()

    async def profile(self, model: str, version: str | None, tool: str, seconds: float) -> dict[str, Any]:
        """What a profiler finds in a process that runs this version, under its real traffic; see
        deployments.profiled."""
        return await profiled.of(self.find(model, version), tool, seconds)

    def configuration(self) -> dict[str, Any]:
        """What is served, as it was given; without the cache's URL, which may hold a password."""
        document = self._config.model_dump(mode="json", exclude_unset=True)
        document.get("cache", {}).pop("url", None)
        return document

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For the models' autoscaling policies; Serve asks twice a second."""
        reports = {name: backend.report() for name, backend in self._opener.replicas.items()}
        return told(reports)

    async def record(self, is_on: bool) -> None:
        """Note what is asked from now on, or no longer."""
        self._recorder.turn(is_on)

    async def recorded(self) -> list[Row]:
        """What was asked since the last call."""
        return self._recorder.collect()

    def count_error(self, err: HeadraceError, model: str = "", version: str = "", callers: int = 1) -> None:
        """So many got an error; labels stay bounded, whatever callers ask for."""
        named = self._named(model, version)
        metrics.count(ERRORS, (*named, err.kind), callers)
        self._teller.seconds.failed(named, err.kind, callers)

    def failed(self, err: BaseException, request: InferRequest, version: str = "") -> None:
        """A request ended with this: count it, and tell of it. That a caller has left is no error."""
        if isinstance(err, HeadraceError):
            self.count_error(err, request.model, version)
        elif isinstance(err, Exception) and not isinstance(err, ClientLeftError):
            self.count_error(HeadraceError(type(err).__name__), request.model, version)
        is_known = self._named(request.model, version) == (request.model, version) != ("", "")
        self.accounts.failed(request, version, err, is_known=is_known)

    @contextmanager
    def telling(self, request: InferRequest, version: str = "") -> Iterator[None]:
        """Have `failed` told of what the block raises."""
        try:
            yield
        except BaseException as err:
            self.failed(err, request, version)
            raise

    def _named(self, model: str, version: str) -> tuple[str, str]:
        """Of these, the names of what there is."""
        traffic = self._models.traffics.get(model)
        known = traffic.ready if traffic else {}
        return model if known else "", version if version in known else ""
