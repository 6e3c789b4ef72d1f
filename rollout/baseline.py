"""What a version was measured to be: the document that is kept beside its manifest, and checked when read.

The file holds the document and its SHA-256; the document names the digest of the version, so that neither a
changed baseline nor another version's is ever taken for this one's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from engines.artifact import Artifact, Repository
from engines.manifest import BASELINE
from headrace.config import Name
from headrace.errors import ArtifactRejected, CallerError
from rollout.fingerprint import Fingerprint

Positive = Annotated[FiniteFloat, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Latency(_Part):
    """Milliseconds of one call with a whole batch of one shape."""

    batch: int = Field(ge=1)
    sizes: Mapping[str, Annotated[int, Field(ge=0)]]  # of the variable dimensions other than "batch"
    median_ms: Positive
    p95_ms: Positive
    calls: int = Field(ge=1)  # that were timed


class Throughput(_Part):
    """Of one engine that always has more to do, with requests of all shapes mixed."""

    rows_per_s: Positive
    mean_batch: Positive  # rows
    grouping: Literal["exact", "nearest", "buckets"]
    max_batch: int = Field(ge=1)  # rows
    engine_s_per_1000: Positive  # seconds of the engine for 1,000 rows
    cpu_s_per_1000: Annotated[FiniteFloat, Field(ge=0)]  # of all its threads


class Accuracy(_Part):
    value: FiniteFloat
    source: Literal["recipe", "manifest"]  # measured for this, or when the version was made


class Baseline(_Part):
    format: Literal[1] = 1
    model: Name
    version: Name
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")  # of the version
    recorded: str  # UTC, ISO 8601
    fingerprint: Fingerprint
    threads: int = Field(ge=1)  # of the engine
    latencies: tuple[Latency, ...] = Field(min_length=1)
    throughput: Throughput
    size_bytes: int = Field(ge=0)  # of the files that the engine loads
    accuracy: Accuracy | None = None  # None: nobody has told


def dump(baseline: Baseline) -> bytes:
    """What goes into the file."""
    document = baseline.model_dump(mode="json")
    return json.dumps({"sha256": _digest(document), "baseline": document}, indent=2).encode()


def parse(data: bytes, artifact: Artifact) -> Baseline:
    """The baseline that a file holds; ArtifactRejected when it was changed, or is not this version's."""
    name = f"{artifact.manifest.name}/{artifact.manifest.version}"
    try:
        document = json.loads(data)
        if _digest(document["baseline"]) != document["sha256"]:
            raise ValueError("its SHA-256 differs from what it says")
        baseline = Baseline.model_validate_json(json.dumps(document["baseline"]))
        if f"{baseline.model}/{baseline.version}" != name:
            raise ValueError(f"it is that of '{baseline.model}/{baseline.version}'")
        if baseline.digest != artifact.digest:
            raise ValueError("it was recorded of other files: the version's digest is another")
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise ArtifactRejected(
            f"{BASELINE} of '{name}' is refused: {_explain(err)}. Record it anew: headrace baseline record "
            f"{name}"
        ) from err
    return baseline


def read_baseline(repository: Repository, artifact: Artifact) -> Baseline | None:
    """The baseline that is kept with a version; None when none was recorded. ArtifactRejected as `parse`."""
    data = repository.baseline(artifact.manifest.name, artifact.manifest.version)
    return None if data is None else parse(data, artifact)


def choose_old(new: str, answers: str, parent: str | None, recorded: Sequence[str], model: str) -> str:
    """The version to compare with, of those that have a baseline: the one that answers now, else the one
    that the new version was made from, else the newest other one, else the new version itself.

    `recorded` is in the order of versions. CallerError when none has a baseline.
    """
    if not recorded:
        raise CallerError(
            f"no version of {model!r} has a baseline to compare with: record one (headrace baseline record "
            f"{model}/VERSION), or name a version by --against"
        )
    preferred = [answers, *([parent] if parent else []), *reversed(recorded)]
    return next((version for version in preferred if version in recorded and version != new), new)


def _digest(document: object) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _explain(err: Exception) -> str:
    if isinstance(err, ValidationError):
        problem = err.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return str(err) if type(err) is ValueError else f"it is not what Headrace writes ({type(err).__name__})"
