"""Looks at Ray's Prometheus ports -> what each version did between two of them, and since it started."""

from __future__ import annotations

import math
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from deployments.versions import GATEWAY_APP, app_name
from headrace.errors import ConfigRejected, EngineUnavailable
from headrace.metrics import (
    BATCH_ROWS,
    BATCH_SERVICE,
    BATCHES,
    CACHE_REQUESTS,
    CACHE_SAVED,
    ERRORS,
    QUEUE_DEPTH,
    REQUEST_LATENCY,
    MetricSpec,
)
from rollout.traffic import Histogram, Traffic

_PATIENCE_S = 10.0
_WANTED = {
    f"ray_{spec.name}{part}"
    for spec, parts in (
        (REQUEST_LATENCY, ("_bucket",)),
        (BATCHES, ("",)),
        (BATCH_SERVICE, ("",)),
        (BATCH_ROWS, ("",)),
        (ERRORS, ("",)),
        (CACHE_REQUESTS, ("",)),
        (CACHE_SAVED, ("",)),
        (QUEUE_DEPTH, ("",)),
    )
    for part in parts
}

# One series: its name, and its labels in the order of their names.
Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Look:
    """What stood on the ports at one time."""

    at_s: float  # on any clock that only goes forward
    values: Mapping[Series, float] = field(default_factory=dict)

    def since(self, earlier: Look) -> Look:
        """What came in between. A counter that is smaller than it was began anew, with its process."""
        values = {}
        for series, value in self.values.items():
            before = earlier.values.get(series, 0.0)
            values[series] = value - before if value >= before else value
        return Look(self.at_s, values)

    def traffic(self, model: str, version: str, seconds: float | None) -> Traffic:
        """What is counted of one version, all processes together."""
        return Traffic(
            seconds=seconds,
            latency=self._latency(model, version),
            errors=self._by(ERRORS, "kind", model, version),
            tiers=self._by(CACHE_REQUESTS, "tier", model, version),
            saved_s=self._sum(CACHE_SAVED, "", model, version),
            engine_s=self._sum(BATCH_SERVICE, "", model, version),
            batches=self._sum(BATCHES, "", model, version),
            rows=self._sum(BATCH_ROWS, "", model, version),
        )

    def processes(self, model: str, version: str) -> int | None:
        """How many have an engine of it: its own replicas, or the gateways; None where none tells."""
        found: dict[str, set[str]] = {}
        for labels, _ in self._of(QUEUE_DEPTH, "", model, version):
            found.setdefault(labels.get("application", ""), set()).add(labels.get("replica", ""))
        own = found.get(app_name(model, version)) or found.get(GATEWAY_APP)
        return len(own) if own else None

    def _latency(self, model: str, version: str) -> Histogram:
        counts: dict[float, float] = {}
        for labels, value in self._of(REQUEST_LATENCY, "_bucket", model, version):
            edge = float(labels["le"])
            counts[edge] = counts.get(edge, 0.0) + value
        if not counts:
            return Histogram()
        edges = sorted({*counts, math.inf})
        whole = counts.get(math.inf, max(counts.values()))
        return Histogram(tuple(edges), tuple(counts.get(edge, whole) for edge in edges))

    def _by(self, spec: MetricSpec, label: str, model: str, version: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for labels, value in self._of(spec, "", model, version):
            found[labels[label]] = found.get(labels[label], 0.0) + value
        return found

    def _sum(self, spec: MetricSpec, part: str, model: str, version: str) -> float:
        return sum(value for _, value in self._of(spec, part, model, version))

    def _of(
        self, spec: MetricSpec, part: str, model: str, version: str
    ) -> Iterable[tuple[dict[str, str], float]]:
        name = f"ray_{spec.name}{part}"
        for (found, pairs), value in self.values.items():
            if found != name:
                continue
            labels = dict(pairs)
            if labels.get("model") == model and labels.get("version") == version:
                yield labels, value


def parse(texts: Iterable[str], at_s: float) -> Look:
    """What the ports of several nodes say; what is not ours is left out."""
    values: dict[Series, float] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in _WANTED:
                    series = sample.name, tuple(sorted(sample.labels.items()))
                    values[series] = values.get(series, 0.0) + sample.value
    return Look(at_s, values)


def read(urls: Iterable[str]) -> list[str]:
    """What each port says; EngineUnavailable names one that does not answer."""
    return [_read(url) for url in urls]


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:  # noqa: S310  checked by `each_node`
            text: str = answer.read().decode()
    except (OSError, urllib.error.URLError, UnicodeDecodeError) as err:
        raise EngineUnavailable(
            f"no metrics at {url} ({err}); name Ray's Prometheus port, as headrace serve prints it"
        ) from err
    return text


def each_node(url: str) -> list[str]:
    """A name that stands for several nodes (a headless Service) becomes the address of each."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not parts.port:
        raise ConfigRejected(f"--metrics {url!r}: allowed is http://HOST:PORT/metrics")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as err:
        raise EngineUnavailable(f"no metrics at {url}: the name is not known ({err})") from err
    hosts = dict.fromkeys(str(address[0]) for *_, address in found)
    return [parts._replace(netloc=f"{host}:{parts.port}").geturl() for host in hosts]
