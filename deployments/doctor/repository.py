"""The repository of a configuration: every file of every version as it was published, and fit for here."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from deployments import app
from deployments.doctor.check import Check, bad, ok, warn
from engines.artifact import Artifact, Repository
from engines.cpu import cpu_cores, cpu_flags
from headrace.config import Config
from headrace.errors import HeadraceError
from monitoring.glyphs import size

_LEFT_S = 3600.0  # no publishing takes so long


def checks(config: Config) -> Iterator[Check]:
    """`config` as it was given."""
    root = Path(config.repository)
    if not root.is_dir():
        advice = "publish a model (headrace optimize, headrace publish), or mend `repository`"
        yield bad("repository", f"{root} is no folder", advice)
        return
    try:
        app.pinned(config)
        yield ok("configuration", "can be served with what is there")
    except (HeadraceError, OSError) as err:
        yield bad("configuration", str(err), "headrace serve would end with this")
    yield from versions(Repository(root))
    yield from leftovers(root, time.time())


def versions(repository: Repository) -> Iterator[Check]:
    """Every file is read and compared with its SHA-256."""
    whole: list[Artifact] = []
    for name in repository.names():
        for version in repository.versions(name):
            try:
                whole.append(repository.open(name, version))
            except (HeadraceError, OSError) as err:
                advice = "it will not be served: publish it anew, from a copy that is whole"
                yield bad(f"{name}/{version}", str(err), advice)
    total = sum(artifact.manifest.size_bytes() for artifact in whole)
    yield ok("versions", f"{len(whole)} with every file as published, {size(total)}")
    flags, cores = set(cpu_flags()), cpu_cores()
    for artifact in whole:
        yield from elsewhere(artifact, flags, cores)


def elsewhere(artifact: Artifact, flags: set[str], cores: int) -> Iterator[Check]:
    """What of a version was measured on another kind of machine."""
    manifest = artifact.manifest
    title = f"{manifest.name}/{manifest.version}"
    if missing := sorted(set(manifest.cpu_flags) - flags):
        advice = (
            "expect other speeds, and other roundings in INT8: measure it here (headrace baseline record)"
        )
        yield warn(title, f"made on a CPU with {', '.join(missing)}", advice)
    if manifest.tuned is not None and manifest.tuned.machine.cores != cores:
        told = f"tuned for {manifest.tuned.machine.cores} cores, and here are {cores}"
        yield warn(title, told, f"its set-up is not taken: headrace tune {title} --repository FOLDER")


def leftovers(root: Path, now: float) -> Iterator[Check]:
    """Hidden folders of publishers that were killed."""
    found = []
    for path in root.glob("*/.*-*"):
        try:
            if path.is_dir() and not path.is_symlink() and now - path.stat().st_mtime > _LEFT_S:
                found.append(f"{path.parent.name}/{path.name}")
        except OSError:
            continue  # it has gone since
    if found:
        delete = shlex.join(["rm", "-r", "--", *(str(root / name) for name in sorted(found))])
        advice = f"nobody reads them; delete them: {delete}"
        yield warn("leftovers", f"{len(found)} of interrupted publishing", advice)
    else:
        yield ok("leftovers", "none")
