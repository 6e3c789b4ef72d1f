"""Built plans, kept by what they were built of and for.

A plan is a program that a library runs unchecked. So it is taken from a folder that nobody else may write
into, and only with the digest that was noted when it was built; anything else is as if it were not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from engines.trt_build import Recipe
from headrace.errors import ConfigRejected

_log = logging.getLogger(__name__)
MOST_PLANS = 64
_SUFFIX = ".plan"
_PRIVATE = 0o077  # bits that nobody but the owner may have


@dataclass(frozen=True, slots=True)
class Key:
    """What a plan depends on. With another kind of GPU, release or graph it is another plan."""

    graph: str  # SHA-256 of the version that it was made of
    recipe: str  # likewise of how
    library: str  # its name and release
    gpu: str  # compute capability, as "8.9"; and the GPU's name, where a plan is for no other of these

    @classmethod
    def of(cls, digest: str, recipe: Recipe, library: str, gpu: str) -> Key:
        return cls(digest, _sha256(json.dumps(asdict(recipe), sort_keys=True).encode()), library, gpu)

    @property
    def file(self) -> str:
        """Its name."""
        return _sha256(json.dumps(asdict(self), sort_keys=True).encode())[:32] + _SUFFIX


class Plans:
    """A folder of plans, made when the first one is kept. ConfigRejected when others may write into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: Key) -> bytes | None:
        """None when there is none, or one that is not what was kept."""
        if not self._folder.exists():
            return None
        self._check()
        kept = self._read(key.file)
        if kept is None:
            return None
        note, _, data = kept.partition(b"\n")
        try:
            told = json.loads(note)
            is_it = told["key"] == asdict(key) and told["sha256"] == _sha256(data)
        except (ValueError, KeyError, TypeError):
            is_it = False
        if not is_it:
            _log.warning("a kept plan is damaged, and is built anew")
            return None
        with contextlib.suppress(OSError):
            os.utime(self._folder / key.file)  # the last to go
        return data

    def put(self, key: Key, data: bytes) -> None:
        """One file, so that no two writers' halves meet. Of many plans those used longest ago go."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check()
        note = json.dumps({"key": asdict(key), "sha256": _sha256(data)}).encode()
        self._write(key.file, note + b"\n" + data)
        self._tidy()

    def drop(self, key: Key) -> None:
        with contextlib.suppress(OSError):
            (self._folder / key.file).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Others may do the same at the same time."""
        ages = {}
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                ages[path] = path.stat().st_mtime
        for path in sorted(ages, key=lambda path: ages[path])[: max(0, len(ages) - MOST_PLANS)]:
            with contextlib.suppress(OSError):
                path.unlink()

    def timing_cache(self, library: str, gpu: str) -> bytes:
        """What earlier builds for this GPU measured; b"" at first."""
        if not self._folder.exists():
            return b""
        self._check()
        return self._read(_timings(library, gpu)) or b""

    def put_timing_cache(self, library: str, gpu: str, data: bytes) -> None:
        if data:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check()
            self._write(_timings(library, gpu), data)

    def _check(self) -> None:
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _PRIVATE:
            raise ConfigRejected(
                "the folder of built plans must belong to who runs the server, and to nobody else (mode "
                "0700): plans are run unchecked. Mend its mode, or name another folder"
            )

    def _read(self, name: str) -> bytes | None:
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all."""
        descriptor, path = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(path).replace(self._folder / name)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise


def _timings(library: str, gpu: str) -> str:
    return f"{_sha256(f'{library} {gpu}'.encode())[:32]}.timings"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
