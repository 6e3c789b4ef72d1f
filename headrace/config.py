"""One typed document: what to serve, from where, and within which limits."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from headrace.errors import ConfigRejected

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def check_name(name: str) -> str:
    """The name of a model or version, unchanged; ValueError when it could not be a folder of its own."""
    if not _NAME.fullmatch(name) or not name.strip("."):
        raise ValueError("a name has 1 to 64 of the characters A-Z a-z 0-9 _ . - and is not made of dots")
    return name


Name = Annotated[str, AfterValidator(check_name)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HttpConfig(_Part):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)


class GrpcConfig(_Part):
    """Listens on http.host, too."""

    port: int = Field(default=9000, ge=1, le=65535)


class LimitsConfig(_Part):
    body_mib: int = Field(default=64, ge=1, le=4096)  # on the wire, and again after decompression
    body_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    json_depth: int = Field(default=32, ge=4, le=200)
    tensors: int = Field(default=64, ge=1, le=4096)
    rank: int = Field(default=16, ge=1, le=32)


class CacheConfig(_Part):
    enabled: bool = True
    # None: a private embedded server on this machine. ${NAME} stands for that environment variable of the
    # process that connects, so that a password need not be written here
    url: str | None = None
    prefix: str = "headrace:"
    # The header (gRPC: metadata), such as "x-tenant", by which answers are kept apart; None: all share them
    tenant_header: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    ttl_s: float = Field(default=3600.0, gt=0)
    memory_mib: float = Field(default=64.0, ge=0)  # in each gateway, for models without memory of their own
    redis_mib: int = Field(default=256, ge=1)  # of the embedded server
    timeout_ms: float = Field(default=50.0, gt=0, le=10_000)


class BatchingConfig(_Part):
    """`exact` stacks equal shapes only; `nearest` pads the oldest request and its nearest
    neighbours in length to one shape; `buckets` pads each request to the smallest bucket that
    holds it; `auto` takes what `headrace tune` found, else what the latencies in the manifest say.

    max_batch and max_padding that are not given are as tuned, too, else as here. Grouping "buckets"
    without buckets takes the learned ones.
    """

    grouping: Literal["auto", "exact", "nearest", "buckets"] = "auto"
    buckets: list[dict[str, PositiveInt]] = []  # sizes of variable dimensions, for grouping "buckets"
    oversize: Literal["refuse", "exact"] = "refuse"  # what no bucket holds; learned ones: in its own shape
    max_batch: int = Field(default=8, ge=1, le=4096)  # rows
    max_padding: float = Field(default=0.1, ge=0, lt=1)  # of a batch's elements, grouping "nearest"
    max_wait_ms: float = Field(default=0.0, ge=0, le=10_000)  # for a fuller group, when the engine is free
    max_queue: int = Field(default=2048, ge=1)  # requests of the model that may wait, all gateways together
    permits: int = Field(default=1, ge=1, le=16)  # groups in the engine at the same time
    hang_s: float = Field(default=4.0, gt=0)  # a batch of at least this age and 10 times the usual has hung

    @model_validator(mode="after")
    def _buckets_agree(self) -> BatchingConfig:
        if len({frozenset(bucket) for bucket in self.buckets}) > 1 or {} in self.buckets:
            raise ValueError("every bucket must name the same variable dimensions, at least one")
        return self


class _Answers(_Part):
    """What holds for whatever answers requests."""

    cache: bool = False  # for what has one answer, whenever it is computed
    cache_ttl_s: float | None = Field(default=None, gt=0)  # None: the cache's
    cache_memory_mib: float | None = Field(default=None, ge=0)  # of its own in each gateway; None: shares
    # The shared cache is asked and told: "auto" only where that takes less than computing, as measured
    cache_shared: Literal["auto", "always", "never"] = "auto"
    cache_precision: Literal["full", "fp16"] = "full"  # fp16: rounded, in half the room
    timeout_ms: float | None = Field(default=None, gt=0)  # of requests that bring none


class AnswerConfig(_Part):
    """How an output of two versions is compared, or an answer with the truth."""

    # top1: the largest of each row is the same; cosine: each row points the same way; close: the numbers are
    # near; equal: they are the same
    rule: Literal["top1", "cosine", "close", "equal"]
    # None: as rollout/compare.py has it. top1: a lead of so much of the row's range is a tie; cosine: 1 minus
    # the least; close: the norm of the differences over that of the numbers
    tolerance: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _equal_is_exact(self) -> AnswerConfig:
        if self.rule == "equal" and self.tolerance:
            raise ValueError(f'rule "equal" has no tolerance; got {self.tolerance:g}')
        return self


class FeedbackConfig(_Part):
    """Callers tell later what would have been right: which output that is about, and how it is judged."""

    output: str
    rule: Literal["top1", "equal", "close"] = "top1"
    tolerance: float = Field(default=0.05, ge=0, le=1)  # rule "close": of the truth
    keep: int = Field(default=10_000, ge=1, le=1_000_000)  # answers that each gateway remembers
    keep_s: float = Field(default=3600.0, gt=0, le=604_800)  # for how long the truth may be told


class OverloadConfig(_Part):
    """A cheaper version answers what the usual one would refuse."""

    version: Name
    max_drop: float = Field(default=0.01, ge=0, le=1)  # of accuracy, as the versions' manifests have it


class AutoscalingConfig(_Part):
    """As many replicas as answer what is asked within the objective, and no more than that takes."""

    min_replicas: int = Field(default=1, ge=0, le=10_000)  # 0: it sleeps when nobody asks
    max_replicas: int = Field(ge=1, le=10_000)
    objective_ms: float = Field(default=500.0, gt=0, le=600_000)  # from request to answer, for 99 of 100
    utilization: float = Field(default=0.75, ge=0.1, le=1)  # of the engines, at most: the rest is for bursts
    down_after_s: float = Field(default=60.0, ge=1, le=86_400)  # for so long fewer must have sufficed
    sleep_after_s: float = Field(default=300.0, ge=1, le=86_400)  # without a request, for min_replicas 0
    # On few cores those that start keep each other back. None: as many as the machine has cores where
    # `headrace serve` has one of its own, else no limit
    starts_at_once: int | None = Field(default=None, ge=1, le=10_000)

    @model_validator(mode="after")
    def _bounds_do_not_cross(self) -> AutoscalingConfig:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas} and max_replicas is {self.max_replicas}; "
                "the first may be at most the second"
            )
        return self


class ModelConfig(_Answers):
    versions: list[Name] = []  # the last one answers; empty: the newest in the repository
    placement: Literal["inline", "replicas"] = "inline"
    replicas: int = Field(default=1, ge=1, le=1000)  # only for placement "replicas"
    autoscaling: AutoscalingConfig | None = None  # instead of `replicas`; only for placement "replicas"
    affinity: bool = False  # like requests meet on one replica until it is busy
    num_gpus: float = Field(default=0.0, ge=0)  # of each replica
    threads: int = Field(default=1, ge=1, le=256)  # of each batch; not given: as tuned, else 1
    answers: dict[str, AnswerConfig] = {}  # how answers of two versions are compared, by output
    feedback: FeedbackConfig | None = None  # None: answers are not remembered by their request
    overload: OverloadConfig | None = None  # None: what is too much is refused
    run_code: bool = False  # engine "python" runs the code in the artifact: only if you trust its source
    reoptimize_days: int = Field(default=90, ge=0, le=10_000)  # then headrace audit calls it due; 0: never
    # Of late requests each gateway keeps so many inputs, for headrace reoptimize; they may be private
    keep_inputs: int = Field(default=0, ge=0, le=100_000)
    batching: BatchingConfig = BatchingConfig()

    @model_validator(mode="after")
    def _replicas_are_told_clearly(self) -> ModelConfig:
        if self.num_gpus > 1 and not self.num_gpus.is_integer():
            raise ValueError(f"num_gpus is {self.num_gpus:g}; allowed: 0 to 1, or a whole number of them")
        if self.autoscaling is None:
            return self
        if self.placement != "replicas":
            raise ValueError('autoscaling is for placement: replicas; this model has placement: "inline"')
        if "replicas" in self.model_fields_set:
            raise ValueError("replicas and autoscaling are both given; choose one")
        return self

    @property
    def max_replicas(self) -> int:
        """The most that there can be."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas

    @property
    def cores(self) -> int:
        """That each engine computes on; with a GPU its batches only begin and end there."""
        return self.threads if self.num_gpus else self.threads * self.batching.permits


class PipelineConfig(_Answers):
    """Models one after the other, as one model: each takes what it needs, by name, from the request and from
    the answers before it, and remembers for itself."""

    steps: list[Name] = Field(min_length=2)  # keys of `models`; the last one's outputs are the answer


class RolloutsConfig(_Part):
    """Of all models; what a single rollout is to do is said when it starts."""

    # The header (gRPC: metadata) that names a caller, who then gets the same version again and again
    caller_header: str | None = Field(default="headrace-caller", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")


class TracingConfig(_Part):
    """Spans, to where OpenTelemetry's variables say; OTEL_TRACES_SAMPLER goes before `rate`."""

    rate: float = Field(default=0.01, ge=0, le=1)  # of the requests whose caller has not decided it
    slower_than_ms: float | None = Field(default=None, gt=0, le=3_600_000)  # slower ones are kept, too
    # At most so many slow and failed ones a second in each gateway, beyond the rate
    kept_per_s: float = Field(default=20.0, gt=0, le=10_000)


class LogsConfig(_Part):
    """What gateways, replicas and the monitor write, and which requests have a line of their own."""

    format: Literal["text", "json"] = "text"
    requests: Literal["none", "errors", "slow", "all"] = "none"  # slow: errors among them; lines are JSON
    slower_than_ms: float = Field(default=250.0, gt=0, le=3_600_000)  # is slow
    sample: float = Field(default=1.0, ge=0, le=1)  # requests "all": of those neither slow nor failed
    folder: str | None = None  # None: where Serve's own logs are

    @model_validator(mode="after")
    def _sample_is_of_all(self) -> LogsConfig:
        if self.sample < 1 and self.requests != "all":
            raise ValueError(f'sample is for requests: all; this has requests: "{self.requests}"')
        return self


class Config(_Part):
    repository: str = "models"
    gateways: int = Field(default=2, ge=1, le=1000)  # gateway replicas; not given: as tuned, else 2
    http: HttpConfig = HttpConfig()
    grpc: GrpcConfig | None = None  # None: no gRPC; `grpc: {}` is port 9000
    limits: LimitsConfig = LimitsConfig()
    cache: CacheConfig = CacheConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    monitoring: bool = True  # figures by request: percentiles, stages, metrics. Off: some throughput more
    dashboard: bool = True  # the live page at /dashboard and its figures, for whoever reaches http.host
    tracing: TracingConfig | None = None  # None: none; `tracing: {}` is one request in a hundred
    logs: LogsConfig = LogsConfig()
    models: dict[Name, ModelConfig] = Field(min_length=1)
    pipelines: dict[Name, PipelineConfig] = {}

    @model_validator(mode="after")
    def _ports_differ(self) -> Config:
        if self.grpc is not None and self.grpc.port == self.http.port:
            raise ValueError(f"grpc.port and http.port are both {self.http.port}; choose two ports")
        return self

    @model_validator(mode="after")
    def _steps_are_models(self) -> Config:
        for name, pipeline in self.pipelines.items():
            if name in self.models:
                raise ValueError(f"{name!r} is both a model and a pipeline; choose two names")
            if unknown := [step for step in pipeline.steps if step not in self.models]:
                raise ValueError(
                    f"pipeline {name!r} has the step {unknown[0]!r}, which is no model of this "
                    f"configuration; there are: {', '.join(sorted(self.models))}"
                )
            if len(set(pipeline.steps)) < len(pipeline.steps):
                raise ValueError(f"pipeline {name!r} has a step twice")
        return self


def parse_config(document: object) -> Config:
    """A checked Config; ConfigRejected names each wrong key, its value and what is allowed."""
    try:
        return Config.model_validate(document)
    except ValidationError as err:
        raise ConfigRejected("\n".join(_explain(problem) for problem in err.errors())) from err


def load_config(path: Path) -> Config:
    """Read YAML (JSON is YAML too). A relative `repository` is taken from the file's folder."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigRejected(f"no configuration file {path}") from err
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as err:
        raise ConfigRejected(f"{path} cannot be read as YAML: {err}") from err
    if not isinstance(document, dict):
        raise ConfigRejected(f"{path} must hold a mapping with the key 'models'")
    config = parse_config(document)
    root = Path(config.repository)
    return (
        config
        if root.is_absolute()
        else config.model_copy(update={"repository": str((path.parent / root).resolve())})
    )


def variables_in(url: str) -> list[str]:
    """The names in a URL's ${NAME}, each once."""
    return list(dict.fromkeys(_VARIABLE.findall(url)))


def with_variables(url: str, environment: Mapping[str, str]) -> str:
    """The URL with every ${NAME} replaced by that variable, in the quoting of URLs; ConfigRejected when one
    is not set."""
    if missing := [name for name in variables_in(url) if name not in environment]:
        raise ConfigRejected(
            f"cache.url takes {', '.join(missing)} from the environment, where there is no such variable"
        )
    return _VARIABLE.sub(lambda found: quote(environment[found[1]], safe=""), url)


def _explain(problem: Any) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", _told(problem))  # a URL may hold a password


def _told(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown key {where!r} (value {problem['input']!r}); allowed: {', '.join(allowed)}{hint}"
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):  # of values that do not agree
        return f"{where}: {problem['ctx']['error']}" if where else str(problem["ctx"]["error"])
    return f"{where or 'document'}: {problem['msg']}; got {problem['input']!r}"


def _allowed_keys(loc: tuple[Any, ...]) -> list[str]:
    part: Any = Config
    is_named = False  # the next step is a name that the user chose
    for step in loc:
        if part is Config and step in ("models", "pipelines"):
            part = {"models": ModelConfig, "pipelines": PipelineConfig}[step]
            is_named = True
        elif is_named:
            is_named = False
        else:
            part = part.model_fields[step].annotation
            part = next((arm for arm in get_args(part) if hasattr(arm, "model_fields")), part)  # X | None
    return sorted(part.model_fields)
