"""Every metric: its name, kind, unit, labels and buckets, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, eq=False)  # each is itself only: found by identity, which costs nothing
class MetricSpec:
    """One metric. Ray's Prometheus port puts `ray_` before the name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


_MODEL = ("model", "version")
_GROUP = (*_MODEL, "group")  # a batch's shape, its sizes rounded up to powers of two
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_RATIO = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)

REQUEST_LATENCY = MetricSpec(
    "headrace_request_latency_seconds",
    "histogram",
    "From the request in the gateway to its answer, cache hits included.",
    _MODEL,
    _SECONDS,
)
QUEUE_DEPTH = MetricSpec(
    "headrace_queue_depth_rows",
    "gauge",
    "Rows that wait in this replica: for its engine, or for replicas of the model.",
    _MODEL,
)
BATCH_ROWS = MetricSpec("headrace_batch_rows", "histogram", "Rows in an executed batch.", _GROUP, _ROWS)
BATCH_FILL = MetricSpec(
    "headrace_batch_fill_ratio",
    "histogram",
    "Useful elements of an executed batch divided by all of its elements, padding included.",
    _GROUP,
    _RATIO,
)
BATCH_WAIT = MetricSpec(
    "headrace_batch_wait_seconds",
    "histogram",
    "From the arrival of a batch's oldest request to its start in the engine.",
    _GROUP,
    _SECONDS,
)
BATCH_SERVICE = MetricSpec(
    "headrace_batch_service_seconds", "histogram", "What the engine took for a batch.", _GROUP, _SECONDS
)
CACHE_REQUESTS = MetricSpec(
    "headrace_cache_requests_total",
    "counter",
    "Requests by where the answer came from: memory, redis, flight (shared computation), miss.",
    (*_MODEL, "tier"),
)
CACHE_SAVED = MetricSpec(
    "headrace_cache_saved_seconds_total",
    "counter",
    "Engine seconds that remembered answers would have taken, by where the answer came from.",
    (*_MODEL, "tier"),
)
ERRORS = MetricSpec(
    "headrace_errors_total", "counter", "Requests answered with an error, by its kind.", (*_MODEL, "kind")
)
CACHE_FAULTS = MetricSpec(
    "headrace_cache_faults_total", "counter", "Cache operations that failed and were treated as a miss.", ()
)
FEEDBACK = MetricSpec(
    "headrace_feedback_total", "counter", "Answers of which callers told the truth later.", _MODEL
)
FEEDBACK_RIGHT = MetricSpec(
    "headrace_feedback_right_total", "counter", "Of these the right ones; parts of an answer count.", _MODEL
)
CHEAPER_ANSWERS = MetricSpec(
    "headrace_cheaper_answers_total",
    "counter",
    "Requests that a cheaper version answered instead of their being refused.",
    _MODEL,
)

TRAFFIC = MetricSpec(
    "headrace_traffic_ratio",
    "gauge",
    "Share of a model's requests that a version is to answer, 0 to 1.",
    _MODEL,
)
COPIES = MetricSpec(
    "headrace_shadow_copies_total",
    "counter",
    "Copies of requests to a candidate: same or different answer, failed, dropped.",
    (*_MODEL, "outcome"),
)
ROLLOUT_EVENTS = MetricSpec(
    "headrace_rollout_events_total",
    "counter",
    "What the monitor decided: advanced, finished, rolled_back, test_ended.",
    (*_MODEL, "what"),
)

_APPLICATION = ("application",)  # of a model version, "headrace:NAME:VERSION"
OFFERED = MetricSpec(
    "headrace_offered_replicas",
    "gauge",
    "Replicas that the requests which come now would keep busy, refused ones included.",
    _APPLICATION,
)
BACKLOG = MetricSpec(
    "headrace_backlog_seconds",
    "gauge",
    "What one replica would take for all that waits or runs.",
    _APPLICATION,
)
AUTOSCALING_FAULTS = MetricSpec(
    "headrace_autoscaling_faults_total",
    "counter",
    "Decisions that failed, so that the number of replicas stayed as it was.",
    _APPLICATION,
)

ALL = (
    REQUEST_LATENCY,
    QUEUE_DEPTH,
    BATCH_ROWS,
    BATCH_FILL,
    BATCH_WAIT,
    BATCH_SERVICE,
    CACHE_REQUESTS,
    CACHE_SAVED,
    ERRORS,
    CACHE_FAULTS,
    FEEDBACK,
    FEEDBACK_RIGHT,
    CHEAPER_ANSWERS,
    TRAFFIC,
    COPIES,
    ROLLOUT_EVENTS,
    OFFERED,
    BACKLOG,
    AUTOSCALING_FAULTS,
)
