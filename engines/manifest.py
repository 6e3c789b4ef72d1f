"""The manifest: everything a version says about itself, and the digest that names its answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from headrace.config import Name
from headrace.errors import ArtifactRejected, HeadraceError
from headrace.tensors import Signature

MANIFEST = "manifest.json"
BASELINE = "baseline.json"  # what was measured of a version, beside its manifest and in none
REPORT_PAGE = "report.html"
REPORTS = frozenset({"report.json", REPORT_PAGE})  # they tell of a model and change no answer
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(_Part):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)  # bytes


class SessionOptions(_Part):
    """How the engine is to optimize the graph when it loads it."""

    graph_optimization: Literal["disabled", "basic", "extended", "all"] = "all"
    disabled_optimizers: tuple[str, ...] = ()


class BatchLatency(_Part):
    """Milliseconds of one call with a whole batch of one shape, measured when the version was made."""

    batch: int = Field(ge=1)
    sizes: Mapping[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict
    )  # other variable dimensions
    threads: int = Field(ge=1)
    median_ms: FiniteFloat
    low_ms: FiniteFloat  # 10th percentile
    high_ms: FiniteFloat  # 90th percentile


class Machine(_Part):
    cpu: str  # the processor's own name
    cores: int = Field(ge=1)


class Tuned(_Part):
    """The set-up that `headrace tune` measured to be the best, for machines with as many cores."""

    instances: int = Field(ge=1)  # processes with an engine of their own
    threads: int = Field(ge=1)  # of each batch
    permits: int = Field(default=1, ge=1)  # batches in an engine at the same time
    max_batch: int = Field(ge=1)  # rows
    max_padding: float = Field(ge=0, lt=1)
    grouping: Literal["exact", "nearest", "buckets"]
    buckets: tuple[Mapping[str, Annotated[int, Field(ge=1)]], ...] = ()  # learned, used by grouping "buckets"
    machine: Machine
    figures: Mapping[str, FiniteFloat] = Field(default_factory=dict)  # measured there

    @model_validator(mode="after")
    def _buckets_are_there(self) -> Tuned:
        if self.grouping == "buckets" and not self.buckets:
            raise ValueError("grouping 'buckets' without buckets")
        return self


class Manifest(_Part):
    format: Literal[1] = 1
    name: Name
    version: Name
    engine: str
    engine_version: str  # of the library on the machine that built this version
    cpu_flags: tuple[str, ...]  # of that machine
    graph: str
    session: SessionOptions = SessionOptions()
    signature: Signature
    grouping: Literal["exact", "nearest"] = "exact"  # recommended; the configuration may overrule it
    warm_up: tuple[Mapping[str, Annotated[int, Field(ge=1)]], ...] = ()  # sizes of variable dimensions
    precision: str  # "fp32", "int8-dynamic", "int8-static", "fp16"
    parent: Name | None = None  # the version that this one was made from
    files: Mapping[str, FileEntry]
    created: str  # UTC, ISO 8601
    figures: Mapping[str, FiniteFloat] = Field(default_factory=dict)  # measured on the machine that built it
    latencies: tuple[BatchLatency, ...] = ()  # measured there, too
    tuned: Tuned | None = None

    @model_validator(mode="after")
    def _files_are_plain(self) -> Manifest:
        for file in self.files:
            check_file_name(file)
        if self.graph not in self.files or self.graph in REPORTS:
            raise ValueError(f"the graph {self.graph!r} is not among the files")
        return self

    def graph_files(self) -> dict[str, FileEntry]:
        """The files that the engine loads: the graph and its external data."""
        return {file: entry for file, entry in self.files.items() if file not in REPORTS}

    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.graph_files().values())


def check_file_name(file: str) -> str:
    """The name of a file inside a version, unchanged; ValueError when it is not a plain name."""
    if not _FILE_NAME.fullmatch(file) or file in (MANIFEST, BASELINE):
        raise ValueError(f"{file[:80]!r} is not a plain file name that a version may hold")
    return file


def digest_of(manifest: Manifest) -> str:
    """SHA-256 over all that changes answers: graph files, engine, session options, signature."""
    told = manifest.model_dump(mode="json", include={"engine", "graph", "session", "signature"})
    if manifest.engine == "openvino":  # it rounds a graph in FP32 by itself, as the manifest's precision says
        told["precision"] = manifest.precision
    told["files"] = sorted((file, entry.sha256) for file, entry in manifest.graph_files().items())
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def make_manifest(**parts: Any) -> Manifest:
    """A checked manifest; ArtifactRejected says which part is wrong."""
    try:
        return Manifest.model_validate(parts)
    except (ValidationError, HeadraceError) as err:
        raise ArtifactRejected(f"the manifest is wrong: {_explain(err)}") from err


def parse_manifest(data: bytes) -> Manifest:
    """The manifest that `data` holds as JSON; ArtifactRejected says what is wrong with it."""
    try:
        return Manifest.model_validate_json(data)
    except (ValidationError, HeadraceError) as err:
        raise ArtifactRejected(f"{MANIFEST} is wrong: {_explain(err)}") from err


def _explain(err: Exception) -> str:
    if not isinstance(err, ValidationError):
        return str(err)
    problems = err.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'document'}: {p['msg']}" for p in problems[:3])
