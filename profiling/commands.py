"""Where programs of others are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def find(program: str, *folders: str) -> str | None:
    """Its path: on the PATH, else in the first of `folders` (which may hold a *) that has it."""
    if found := shutil.which(program):
        return found
    for folder in folders:
        head, star, tail = folder.partition("*")
        some: Sequence[Path] = sorted(Path(head).glob(f"*{tail}")) if star else [Path(folder)]
        for path in reversed(some):
            if (path / program).is_file():
                return str(path / program)
    return None
