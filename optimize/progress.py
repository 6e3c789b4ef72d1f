"""One line of progress for each long step. `rich.progress.Progress` fits as it is."""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """The part of `rich.progress.Progress` that is used here."""

    def add_task(self, description: str, *, total: float | None) -> Any: ...

    def update(self, task_id: Any, *, total: float | None = None, advance: float | None = None) -> None: ...


class Line:
    """The progress of one step; does nothing without a Progress."""

    def __init__(self, progress: Progress | None, description: str, total: int | None = None) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total) if progress else None
        self.steps = 0

    def advance(self, steps: int = 1) -> None:
        self.steps += steps
        if self._progress:
            self._progress.update(self._task, advance=steps)

    def finish(self) -> None:
        """Now the total is known, for a step that began without it."""
        if self._progress:
            self._progress.update(self._task, total=max(self.steps, 1), advance=0 if self.steps else 1)
