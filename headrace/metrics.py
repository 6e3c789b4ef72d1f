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
# Counters: a histogram takes 7 us for each value, which at thousands of small batches a second is several
# hundredths of the machine. How the times are spread is in LATENCY.
BATCHES = MetricSpec("headrace_batches_total", "counter", "Batches that the engine ran.", _GROUP)
BATCH_ROWS = MetricSpec("headrace_batch_rows_total", "counter", "Rows in these batches.", _GROUP)
BATCH_WAIT = MetricSpec(
    "headrace_batch_wait_seconds_total",
    "counter",
    "From the arrival of each batch's oldest request to its start in the engine.",
    _GROUP,
)
BATCH_SERVICE = MetricSpec(
    "headrace_batch_service_seconds_total", "counter", "What the engine took for these batches.", _GROUP
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

LATENCY = MetricSpec(
    "headrace_latency_seconds",
    "gauge",
    "Percentiles of the last minute over all gateways, within 1% of the exact ones; stage all: the whole.",
    (*_MODEL, "stage", "quantile"),
)
ROWS = MetricSpec("headrace_rows_total", "counter", "Rows that callers got answers to.", _MODEL)
QUEUE_FILL = MetricSpec(
    "headrace_queue_fill_ratio",
    "gauge",
    "Requests that this process holds for the engine or for replicas, as a share of those it may hold.",
    _MODEL,
)
QUEUE_AGE = MetricSpec(
    "headrace_queue_age_seconds",
    "gauge",
    "How long the request whose turn it is has waited in this process.",
    _MODEL,
)
BATCH_ELEMENTS = MetricSpec(
    "headrace_batch_elements_total",
    "counter",
    "Elements of executed batches: use is useful or padding.",
    (*_GROUP, "use"),
)
ROLLOUT = MetricSpec(
    "headrace_rollout_active",
    "gauge",
    "1 for the candidate of a rollout or the variants of a test that is under way, else 0.",
    _MODEL,
)
PROCESS_CPU = MetricSpec("headrace_process_cpu_cores", "gauge", "Cores that this process keeps busy.", ())
PROCESS_MEMORY = MetricSpec("headrace_process_memory_bytes", "gauge", "Resident memory of this process.", ())
GPU_UTILIZATION = MetricSpec(
    "headrace_gpu_utilization_ratio",
    "gauge",
    "Share of time in which the GPU of this process was busy, whoever used it.",
    ("gpu",),
)
GPU_MEMORY = MetricSpec(
    "headrace_gpu_memory_bytes", "gauge", "Memory in use on the GPU of this process, by whoever.", ("gpu",)
)
BUILD = MetricSpec(
    "headrace_build_info", "gauge", "Always 1; which releases run.", ("headrace", "ray", "onnxruntime")
)

TRACES_LOST = MetricSpec(
    "headrace_traces_lost_total",
    "counter",
    "Requests and batches whose spans were to be told and are not: full (they came faster than they could be "
    "sent), undelivered (nobody took them), allowance (slow or failed ones beyond tracing.kept_per_s).",
    ("why",),
)
LOG_LINES_LOST = MetricSpec(
    "headrace_log_lines_lost_total",
    "counter",
    "Log lines of requests that came faster than they were written.",
    (),
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
    BATCHES,
    BATCH_ROWS,
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
    LATENCY,
    ROWS,
    QUEUE_FILL,
    QUEUE_AGE,
    BATCH_ELEMENTS,
    ROLLOUT,
    PROCESS_CPU,
    PROCESS_MEMORY,
    GPU_UTILIZATION,
    GPU_MEMORY,
    BUILD,
    OFFERED,
    BACKLOG,
    AUTOSCALING_FAULTS,
    TRACES_LOST,
    LOG_LINES_LOST,
)


def as_markdown() -> str:
    """The page docs/metrics.md."""
    rows = [
        f"| `ray_{spec.name}` | {spec.kind} | {_quoted(spec.labels)} | {spec.description} |" for spec in ALL
    ]
    return "\n".join([_HEAD, *rows, _NOTES])


_HEAD = """# Metrics
On Ray's Prometheus port, beside Ray's and Serve's own. Made
by `python -m headrace.metrics > docs/metrics.md`.
Units are in the names. Histograms have `_bucket`, `_sum` and `_count`. Serve adds the labels `application`,
`deployment` and `replica`.

| name | kind | labels | what it is |
|---|---|---|---|"""

_NOTES = """
Labels are bounded. `model` and `version` are names of versions that are served, never what a caller made up
("" then). `group` is a shape of rows, each size rounded up to a power of two. `stage` is wire, decode, cache,
queue, pad, engine, encode or all; `quantile` is 0.5, 0.95 or 0.99."""


def _quoted(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels) or "none"


if __name__ == "__main__":
    print(as_markdown())
