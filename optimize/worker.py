"""Runs one job in a process of its own and hears of its progress through a pipe.

A recipe of a file is loaded anew there (`python -m optimize.worker`); functions of the calling process
travel by fork. Either way the job ends with its parent, and is the first that the kernel takes when
memory runs out.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

import headrace.errors
from headrace.errors import EngineFailed, HeadraceError
from headrace.guard import end_with_parent, guarded
from optimize.progress import Progress
from optimize.recipe import Recipe, load_recipe

CHECKPOINTS = "checkpoints"  # what a job saves of its own progress, removed when it has ended
_LOG_TAIL = 2000  # bytes


@dataclass(frozen=True, slots=True)
class Order:
    """A job as it travels: names and paths only."""

    kind: str
    options: dict[str, Any]
    inputs: dict[str, str]
    folder: str
    log: str


class Told:
    """The child's side of the pipe: a Progress whose lines appear in the parent."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._count = 0

    def add_task(self, description: str, *, total: float | None) -> int:
        self._count += 1
        self.say(add=self._count, description=description, total=total)
        return self._count

    def update(self, task_id: int, *, total: float | None = None, advance: float | None = None) -> None:
        self.say(update=task_id, total=total, advance=advance)

    def say(self, **message: Any) -> None:
        self._pipe.write(json.dumps(message).encode() + b"\n")
        self._pipe.flush()


def run(
    recipe: Recipe, order: Order, label: str, progress: Progress | None, timeout_s: float
) -> dict[str, Any]:
    """What the job said at its end. ConfigRejected: refused, with the reason; EngineFailed: it failed."""
    reader, writer = os.pipe()
    Path(order.log).parent.mkdir(parents=True, exist_ok=True)
    child = _exec(recipe, order, writer) if recipe.path else _fork(recipe, order, writer, reader)
    os.close(writer)
    try:
        last = _listen(reader, label, progress, time.monotonic() + timeout_s)
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        os.close(reader)
    if last is None:
        child.kill()
        child.wait()
        raise EngineFailed(f"{label} took longer than {timeout_s:g} s")
    status = child.wait()
    if "facts" in last:
        return cast(dict[str, Any], last["facts"])
    if "errno" in last:
        raise OSError(last["errno"], os.strerror(last["errno"]))
    if "error" in last:
        kind = getattr(headrace.errors, last["error"], EngineFailed)
        raise kind(last["message"])
    if status < 0:
        name = signal.Signals(-status).name
        hint = "; was memory short?" if status == -signal.SIGKILL else ""
        raise EngineFailed(f"{label} ended by {name}{hint}{_tail(order.log)}")
    raise EngineFailed(f"{label} ended with status {status} and no answer{_tail(order.log)}")


def _listen(reader: int, label: str, progress: Progress | None, until: float) -> dict[str, Any] | None:
    """The job's last word: {} when it ended without one, None when its time was over."""
    tasks: dict[int, Any] = {}
    last: dict[str, Any] = {}
    for message in _messages(reader, until):
        if message is None:
            return None
        if "add" in message and progress:
            described = f"{label}: {message['description']}" if message["description"] else label
            tasks[message["add"]] = progress.add_task(described, total=message["total"])
        elif "update" in message and progress:
            told = {name: message[name] for name in ("total", "advance") if message[name] is not None}
            progress.update(tasks[message["update"]], **told)
        elif {"facts", "error", "errno"} & message.keys():
            last = message
    return last


def _messages(reader: int, until: float) -> Iterator[dict[str, Any] | None]:
    waiting = b""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            yield None
            return
        data = os.read(reader, 1 << 16)
        if not data:
            return
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


class _Forked:
    """The little of Popen that is needed, for a forked child."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _exec(recipe: Recipe, order: Order, writer: int) -> subprocess.Popen[bytes]:
    files = {"recipe": str(recipe.path), "recipe_inputs": str(recipe.inputs) if recipe.inputs else None}
    told = json.dumps({**files, "pipe": writer, **asdict(order)})
    command = guarded(signal.SIGKILL, [sys.executable, "-m", "optimize.worker", told])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with Path(order.log).open("ab") as log:
        return subprocess.Popen(  # noqa: S603  our own module, no shell
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writer,)
        )


def _fork(recipe: Recipe, order: Order, writer: int, reader: int) -> _Forked:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return _Forked(pid)
    status = 1
    try:
        os.close(reader)
        end_with_parent()
        with Path(order.log).open("ab") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        status = work(recipe, order, writer)
    finally:
        os._exit(status)  # nothing of the parent's may run twice


def work(recipe: Recipe | Path, order: Order, writer: int, recipe_inputs: Path | None = None) -> int:
    """In the child: do the job and say how it ended."""
    from optimize.rooms import ROOMS, Room

    _die_first()
    with os.fdopen(writer, "wb") as pipe:
        told = Told(pipe)
        try:
            _one_thread()
            _seed()
            loaded = load_recipe(recipe, recipe_inputs) if isinstance(recipe, Path) else recipe
            room = Room(
                recipe=loaded,
                options=order.options,
                inputs={name: Path(folder) for name, folder in order.inputs.items()},
                folder=Path(order.folder),
                progress=told,
            )
            facts = ROOMS[order.kind](room)
        except HeadraceError as err:
            told.say(error=type(err).__name__, message=str(err))
        except OSError as err:
            if err.errno is None:
                raise
            told.say(errno=err.errno)
        except MemoryError:
            told.say(error="EngineFailed", message="memory ran out")
        else:
            told.say(facts=facts)
            return 0
    return 1


def _die_first() -> None:
    """When memory runs out the kernel is to take this process, not the one that reports it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _one_thread() -> None:
    """Sums in the same order on every run, and figures that are those of one thread."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    else:
        os.environ["OMP_NUM_THREADS"] = "1"


def _seed() -> None:
    """The same random numbers in every run; torch begins with a fixed seed by itself."""
    random.seed(0)
    np.random.seed(0)


def _tail(log: str) -> str:
    with contextlib.suppress(OSError):
        lines = Path(log).read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip().splitlines()
        if lines:
            return f": {lines[-1][:300]}"
    return ""


def main() -> int:
    told = json.loads(sys.argv[1])
    recipe, pipe, inputs = Path(told.pop("recipe")), told.pop("pipe"), told.pop("recipe_inputs")
    return work(recipe, Order(**told), pipe, Path(inputs) if inputs else None)


if __name__ == "__main__":
    sys.exit(main())
