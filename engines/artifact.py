"""The model repository on disk: models/NAME/VERSION/{manifest.json, graph files, reports}."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from engines.cpu import cpu_flags
from engines.manifest import (
    BASELINE,
    MANIFEST,
    REPORT_PAGE,
    BatchLatency,
    FileEntry,
    Manifest,
    SessionOptions,
    Tuned,
    check_file_name,
    digest_of,
    make_manifest,
    parse_manifest,
)
from headrace.config import check_name
from headrace.errors import ArtifactRejected, NotFound
from headrace.tensors import Signature

_CHUNK = 1 << 20  # bytes
_MANIFEST_LIMIT = 4 << 20  # bytes
_BASELINE_LIMIT = 4 << 20  # bytes
_REPORT_LIMIT = 16 << 20
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One verified version. `digest` names its answers: equal digests give equal answers."""

    folder: Path
    manifest: Manifest
    digest: str

    @property
    def graph_path(self) -> Path:
        return self.folder / self.manifest.graph

    def read(self, file: str) -> bytes:
        """The bytes of one file, verified as they were read, so that nothing can change in between."""
        with _open_regular(self.folder / file) as stream:
            data = stream.read()
        _compare(file, self.manifest.files[file], hashlib.sha256(data).hexdigest(), len(data))
        return data


class Repository:
    """Models by name and version. What answers of a published version never changes; readers see a whole
    version or none."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        return sorted(name for name in _folders(self.root) if self._published(name))

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest number first; NotFound names the models that exist."""
        found = self._published(name) if _is_name(name) else []
        if not found:
            raise NotFound(f"no model {name[:64]!r}; there are: {', '.join(self.names()) or 'none'}")
        return found

    def open(self, name: str, version: str) -> Artifact:
        """A version whose every file has been compared with its SHA-256, before anything parses one.

        Raises NotFound for an unknown version, ArtifactRejected for one that was tampered with.
        """
        manifest = self.manifest(name, version)
        folder = self.root / name / version
        _verify(folder, manifest)
        return Artifact(folder, manifest, digest_of(manifest))

    def manifest(self, name: str, version: str) -> Manifest:
        """What a version says of itself, its files not looked at: for decisions before it runs."""
        if version not in (versions := self.versions(name)):
            raise NotFound(f"model '{name}' has no version {version[:64]!r}; it has: {', '.join(versions)}")
        return _read_manifest(self.root / name / version, name, version)

    def describe(self, name: str, version: str) -> Artifact:
        """A version as its manifest tells it: for who hands requests on to those that have opened it."""
        manifest = self.manifest(name, version)
        return Artifact(self.root / name / version, manifest, digest_of(manifest))

    def set_tuned(self, artifact: Artifact, tuned: Tuned) -> Artifact:
        """The same version, its manifest replaced by one rename: how it runs, not what it answers, so the
        digest stays. ArtifactRejected when it cannot be written."""
        manifest = artifact.manifest.model_copy(update={"tuned": tuned})
        _replace(artifact, MANIFEST, manifest.model_dump_json(indent=2).encode(), "the manifest")
        return Artifact(artifact.folder, manifest, artifact.digest)

    def set_baseline(self, artifact: Artifact, data: bytes) -> None:
        """What was measured of a version, kept with it and replaced by one rename; ArtifactRejected when it
        cannot be written."""
        _replace(artifact, BASELINE, data, "the baseline")

    def baseline(self, name: str, version: str) -> bytes | None:
        """What `set_baseline` has kept, unread; None when nothing was. ArtifactRejected when it is no
        ordinary file, or too large."""
        manifest = self.manifest(name, version)
        path = self.root / name / manifest.version / BASELINE
        if not (path.exists() or path.is_symlink()):  # a link to nothing is no baseline, and refused
            return None
        return _read_limited(path, _BASELINE_LIMIT)

    def report(self, name: str, version: str) -> bytes | None:
        """The optimization report's page, as it was published; None when the version has none. Raises as
        `open` does."""
        manifest = self.manifest(name, version)
        if (entry := manifest.files.get(REPORT_PAGE)) is None:
            return None
        data = _read_limited(self.root / name / version / REPORT_PAGE, _REPORT_LIMIT)
        _compare(REPORT_PAGE, entry, hashlib.sha256(data).hexdigest(), len(data))
        return data

    def publish(
        self,
        name: str,
        version: str,
        files: Mapping[str, Path | bytes],
        *,
        graph: str,
        signature: Signature,
        engine: str = "onnxruntime",
        session: SessionOptions | None = None,
        grouping: Literal["exact", "nearest"] = "exact",
        warm_up: tuple[Mapping[str, int], ...] = (),
        precision: str = "fp32",
        parent: str | None = None,
        figures: Mapping[str, float] | None = None,
        latencies: tuple[BatchLatency, ...] = (),
    ) -> Artifact:
        """A new version, put in place by one rename; ArtifactRejected when that version exists already.

        An OSError (a full disk) leaves nothing behind.
        """
        _check_new(name, version, files)
        final = self.root / name / version
        if final.exists():
            raise ArtifactRejected(f"version '{name}/{version}' exists; a published version never changes")
        with _folder_beside(final) as folder:
            manifest = make_manifest(
                name=name,
                version=version,
                engine=engine,
                engine_version=_installed(engine),
                cpu_flags=cpu_flags(),
                graph=graph,
                session=session or SessionOptions(),
                signature=signature,
                grouping=grouping,
                warm_up=warm_up,
                precision=precision,
                parent=parent,
                files={file: _write(folder / file, source) for file, source in files.items()},
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                figures=dict(figures or {}),
                latencies=latencies,
            )
            _write(folder / MANIFEST, manifest.model_dump_json(indent=2).encode())
            _sync_folder(folder)
            _put_in_place(folder, final)
        return Artifact(final, manifest, digest_of(manifest))

    def _published(self, name: str) -> list[str]:
        folder = self.root / name
        found = (version for version in _folders(folder) if (folder / version / MANIFEST).exists())
        return sorted(found, key=_numerically)


def unpublished(
    folder: Path, *, name: str, version: str, graph: str, signature: Signature, engine: str, **parts: Any
) -> Artifact:
    """An artifact over all files of a folder where they lie, to be measured before it is published."""
    files = {}
    for path in sorted(folder.iterdir()):
        with _open_regular(path) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            files[path.name] = FileEntry(sha256=digest, size=os.fstat(stream.fileno()).st_size)
    manifest = make_manifest(
        name=name,
        version=version,
        engine=engine,
        engine_version=_installed(engine),
        cpu_flags=cpu_flags(),
        graph=graph,
        signature=signature,
        files=files,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **parts,
    )
    return Artifact(folder, manifest, digest_of(manifest))


def _read_manifest(folder: Path, name: str, version: str) -> Manifest:
    manifest = parse_manifest(_read_limited(folder / MANIFEST, _MANIFEST_LIMIT))
    if (manifest.name, manifest.version) != (name, version):
        raise ArtifactRejected(
            f"{MANIFEST} in '{name}/{version}' is that of '{manifest.name}/{manifest.version}'"
        )
    return manifest


def _read_limited(path: Path, limit: int) -> bytes:
    with _open_regular(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ArtifactRejected(f"{path.name} is larger than {limit} bytes")
    return data


def _replace(artifact: Artifact, file: str, data: bytes, what: str) -> None:
    """A file of a published version, by one rename."""
    manifest = artifact.manifest
    try:
        with _folder_beside(artifact.folder) as folder:
            _write(folder / file, data)
            (folder / file).replace(artifact.folder / file)
            _sync_folder(artifact.folder)
    except OSError as err:
        raise ArtifactRejected(
            f"{what} of '{manifest.name}/{manifest.version}' cannot be written: {err.strerror}"
        ) from err


def _verify(folder: Path, manifest: Manifest) -> None:
    """Every file that the manifest names, whole and unchanged, and no other but the baseline."""
    present = {entry.name for entry in os.scandir(folder)} - {MANIFEST, BASELINE}
    if extra := sorted(present - manifest.files.keys()):
        raise ArtifactRejected(f"file {extra[0]!r} is not in the manifest")
    for file, entry in manifest.files.items():
        with _open_regular(folder / file) as stream:
            size = os.fstat(stream.fileno()).st_size
            _compare(file, entry, hashlib.file_digest(stream, "sha256").hexdigest(), size)


def _compare(file: str, entry: FileEntry, sha256: str, size: int) -> None:
    if size != entry.size:
        raise ArtifactRejected(f"file '{file}' has {size} bytes; the manifest says {entry.size}")
    if sha256 != entry.sha256:
        raise ArtifactRejected(f"file '{file}' is not the one published: its SHA-256 differs")


def _open_regular(path: Path) -> BufferedReader:
    """An ordinary file for reading: no link is followed and no pipe is waited for."""
    try:
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except FileNotFoundError as err:
        raise ArtifactRejected(f"file '{path.name}' is missing") from err
    except OSError as err:
        raise ArtifactRejected(f"file '{path.name}' cannot be read: {err.strerror}") from err
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise ArtifactRejected(f"file '{path.name}' is not an ordinary file")
    return stream


def _check_new(name: str, version: str, files: Mapping[str, Path | bytes]) -> None:
    try:
        for part in (name, version):
            if check_name(part).startswith("."):
                raise ValueError("a name does not start with a dot")
        for file in files:
            check_file_name(file)
    except ValueError as err:
        raise ArtifactRejected(f"'{name}/{version}' cannot be published: {err}") from err


@contextmanager
def _folder_beside(final: Path) -> Iterator[Path]:
    """A hidden folder on the same filesystem, gone at the end unless it was renamed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        folder.chmod(0o755)  # mkdtemp makes it private, but the server may be another user
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, final: Path) -> None:
    try:
        folder.rename(final)  # fails when another publisher was first: its folder is not empty
    except OSError as err:
        raise ArtifactRejected(
            f"version '{final.parent.name}/{final.name}' exists; a published version never changes"
        ) from err
    _sync_folder(final.parent)


def _write(path: Path, source: Path | bytes) -> FileEntry:
    """Copy `source` to `path`, down to the disk; what was written, by digest and size."""
    digest, size = hashlib.sha256(), 0
    reader: BinaryIO = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with reader, path.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileEntry(sha256=digest.hexdigest(), size=size)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _folders(folder: Path) -> list[str]:
    """Names of real folders; hidden ones are what a crash has left."""
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=False) and _is_name(e.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_name(name: str) -> bool:
    try:
        return not check_name(name).startswith(".")
    except ValueError:
        return False


def _numerically(version: str) -> list[tuple[bool, int, str]]:
    """So that 10 comes after 9, and v1.10 after v1.9."""
    parts = _DIGITS.split(version)
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts if part]


def _installed(engine: str) -> str:
    if engine == "python":
        return platform.python_version()
    try:
        return metadata.version("torch" if engine.startswith("aot") else engine)
    except metadata.PackageNotFoundError:
        return "unknown"
