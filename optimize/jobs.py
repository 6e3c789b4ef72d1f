"""Jobs: each in a process of its own, each result kept under the digest of all that it depends on.

A run that is killed and started again finds the jobs that had ended and takes up the rest: a folder
is renamed into its place only when the job has ended, and jobs that save their own progress find it.
A crash, a signal or a lack of memory ends one job and becomes one row of the report.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from headrace.errors import ConfigRejected, EngineFailed
from optimize import worker
from optimize.machine import this_machine
from optimize.progress import Progress
from optimize.recipe import Recipe

RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Done:
    """An ended job: its folder and what it said. `digest` is that of what it made, not of how."""

    folder: Path
    facts: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done: a kind of `optimize.rooms`, its options (JSON), and ended jobs to build upon."""

    kind: str
    label: str  # for the progress line and for errors
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Done] = field(default_factory=dict)
    is_kept: bool = True  # False: done anew in every run, as it may depend on what no digest sees


class Jobs:
    """Runs jobs in `work`, one run at a time; use `open_jobs`."""

    def __init__(self, work: Path, recipe: Recipe, progress: Progress | None, timeout_s: float) -> None:
        self._work = work
        self.recipe = recipe
        self._progress = progress
        self._timeout_s = timeout_s
        self.num_run = 0
        self.num_found = 0

    def run(self, job: Job) -> Done:
        """The job's result, found or made.

        ConfigRejected: the job was refused, with the reason; EngineFailed: its process failed;
        OSError: the disk is full, nothing half is left.
        """
        key = self.key(job)
        final = self._work / "jobs" / key
        if job.is_kept and (final / RESULT).exists():
            self.num_found += 1
            return _read(final)
        partial = self._work / "partial" / key
        if not job.is_kept:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        order = worker.Order(
            kind=job.kind,
            options=dict(job.options),
            inputs={name: str(done.folder) for name, done in job.inputs.items()},
            folder=str(partial),
            log=str(self._work / "logs" / f"{key}.log"),
        )
        self.num_run += 1
        facts = worker.run(self.recipe, order, job.label, self._progress, self._timeout_s)
        shutil.rmtree(partial / worker.CHECKPOINTS, ignore_errors=True)
        result = {"facts": facts, "digest": _digest(partial, facts)}
        _write_synced(partial / RESULT, json.dumps(result, sort_keys=True).encode())
        shutil.rmtree(final, ignore_errors=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(final)
        return _read(final)

    def key(self, job: Job) -> str:
        """A digest of all that the result depends on: sources, libraries, options, inputs, the machine."""
        told = {
            "kind": job.kind,
            "options": job.options,
            "inputs": {name: done.digest for name, done in job.inputs.items()},
            "recipe": self.recipe.digest(),
            "code": _code(),
            "machine": [this_machine().cpu, sorted(this_machine().versions.items())],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def open_jobs(
    work: Path, recipe: Recipe, progress: Progress | None = None, timeout_s: float = 6 * 3600
) -> Iterator[Jobs]:
    """Jobs in `work`; ConfigRejected when another run holds it, or it cannot be a folder."""
    try:
        (work / "logs").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as err:
        raise ConfigRejected(
            f"{work.name!r}, or a folder above it, is a file where a folder must be; move it away, or choose "
            f"another --out"
        ) from err
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise ConfigRejected(
                "another run of headrace optimize works on this model; wait for its end, or end it"
            ) from err
        yield Jobs(work, recipe, progress, timeout_s)


def reason_of(err: Exception) -> str:
    """One line for the report's row of a job that failed."""
    if isinstance(err, OSError) and not isinstance(err, EngineFailed):
        return f"{err.strerror or type(err).__name__}"
    return str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__


def _read(folder: Path) -> Done:
    result = json.loads((folder / RESULT).read_bytes())
    return Done(folder, result["facts"], result["digest"])


def _digest(folder: Path, facts: Mapping[str, Any]) -> str:
    """Of the files a job made and of what it said."""
    told = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
        with path.open("rb") as stream:
            told.update(str(path.relative_to(folder)).encode() + b"\0")
            told.update(hashlib.file_digest(stream, "sha256").digest())
            os.fsync(stream.fileno())
    return told.hexdigest()


def _write_synced(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


@cache
def _code() -> str:
    """A digest of our own sources: a newer release does not take over results of an older one."""
    root = Path(__file__).parent.parent
    told = hashlib.sha256()
    for room in ("optimize", "engines", "batching", "headrace"):
        for path in sorted((root / room).glob("*.py")):
            told.update(path.read_bytes())
    return told.hexdigest()
