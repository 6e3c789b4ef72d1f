"""models/NAME/rollout.json on disk: one change at a time, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headrace.errors import ArtifactRejected
from rollout.state import FILE, PREVIOUS, State, dump, parse

_LOCK = ".rollout.lock"
_LIMIT = 4 << 20  # bytes

Stamp = tuple[int, int, int]  # tells whether a file is another one


class Store:
    """The states of a repository's models."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, model: str) -> State | None:
        """None for a model that never had a rollout; ArtifactRejected when the file is damaged."""
        data = _read(self._root / model / FILE)
        return None if data is None else parse(data, model)

    def previous(self, model: str) -> State | None:
        """The state before the last change, if there is one that can be read."""
        with suppress(ArtifactRejected):
            data = _read(self._root / model / PREVIOUS)
            return None if data is None else parse(data, model)
        return None

    def stamp(self, model: str) -> Stamp | None:
        """Another one after each change; None as long as there is no file."""
        try:
            found = (self._root / model / FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def change(self, model: str, stable: str, make: Callable[[State], State]) -> State:
        """The state that `make` makes of the present one, written. What it raises changes nothing.

        `stable` answers where there was no state yet. ArtifactRejected when the present one is damaged, or
        when the folder cannot be written.
        """
        folder = self._root / model
        try:
            with _locked(folder / _LOCK):
                before = self.read(model)
                after = make(before or State(model=model, stable=stable))
                if after != before:
                    if before is not None:
                        _write(folder / PREVIOUS, dump(before))
                    _write(folder / FILE, dump(after))
                return after
        except OSError as err:
            raise ArtifactRejected(f"{FILE} of model {model!r} cannot be written: {err.strerror}") from err


def stable_of(store: Store, model: str, default: str) -> tuple[str, str]:
    """The version that answers, and what is wrong with the file ("": nothing).

    Where the file is damaged, as in the state before its last change, where there is one.
    """
    try:
        state, problem = store.read(model), ""
    except ArtifactRejected as err:
        state, problem = store.previous(model), str(err)
    return default if state is None else state.stable, problem


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise ArtifactRejected(
            f"{path.name} of model {path.parent.name!r} cannot be read: {err.strerror}"
        ) from err
    if len(data) > _LIMIT:
        raise ArtifactRejected(f"{path.name} of model {path.parent.name!r} is larger than {_LIMIT} bytes")
    return data


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)  # mkstemp makes it private, but gateways may be another user
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one at a time, in whatever process; let go by the system when that dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
