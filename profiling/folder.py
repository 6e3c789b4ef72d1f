"""The folder that a profile leaves: profile.json, the tool's own files, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace import __version__
from headrace.errors import ConfigRejected
from profiling import tensorboard
from profiling.outcome import Found, Raw, Taken
from profiling.tools import read
from profiling.torch_trace import TRACE

SUMMARY = "profile.json"


@dataclass(frozen=True, slots=True)
class Subject:
    """What was profiled, and with what."""

    model: str
    version: str
    tool: str


def default_folder(subject: Subject, now: datetime) -> Path:
    named = f"{subject.model}-{subject.version}-{subject.tool}-{now:%Y%m%d-%H%M%S}"
    return Path("out") / "profile" / named


def write(out: Path, subject: Subject, taken: Taken, now: datetime) -> Found:
    """All of it into `out`; what the tool's files say, with commands that have the folder's name in them."""
    found = read(subject.tool, Raw(taken.files, taken.facts, taken.notes))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in found.files.items():
            (out / name).write_bytes(data)
    except OSError as err:
        raise ConfigRejected(f"nothing can be written to {out}: {err.strerror}; name another --out") from err
    view = [line.replace("{out}", str(out)) for line in found.view]
    if subject.tool == "tensorboard":
        view = tensorboard.write_logs(out / "logs", taken.files[TRACE], taken.timeline, now.timestamp())
    notes = [*taken.notes, *(note for note in found.notes if note not in taken.notes)]
    if not taken.traffic["requests"] and not taken.traffic["batches"]:
        notes.append(
            "no request came meanwhile, so there is little to see: profile while there is traffic, send some "
            "(headrace bench URL), or profile the version alone with --repository DIR"
        )
    told = Found(found.tables, found.files, view, notes)
    (out / SUMMARY).write_text(json.dumps(_document(subject, taken, told, now), indent=2) + "\n")
    return told


def _document(subject: Subject, taken: Taken, found: Found, now: datetime) -> Mapping[str, Any]:
    return {
        "model": subject.model,
        "version": subject.version,
        "tool": subject.tool,
        "headrace": __version__,
        "ended": now.astimezone(UTC).isoformat(timespec="seconds"),
        "seconds": taken.seconds,
        "process": taken.process,
        "traffic": taken.traffic,
        "timeline": taken.timeline,
        "tables": [table.told() for table in found.tables],
        "files": sorted(found.files),
        "view": found.view,
        "notes": found.notes,
    }
