"""Commands that end with their parent: `guarded` makes one, and this file, run as a program, becomes it.

    python -IS guard.py PARENT_ID SIGNAL_NAME COMMAND [ARGUMENT ...]

A parent that is killed hard cannot end what it started, so the kernel is asked to (Linux only; elsewhere
the command just runs). The signal comes when the *thread* that started the command ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def guarded(number: signal.Signals, command: Sequence[str]) -> list[str]:
    """`command` for a child of this process, ended by the signal when this process ends."""
    return [sys.executable, "-IS", __file__, str(os.getpid()), number.name.removeprefix("SIG"), *command]


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process the signal when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def main() -> None:
    parent, name, *command = sys.argv[1:]
    end_with_parent(signal.Signals[f"SIG{name}"])
    if os.getppid() != int(parent):
        sys.exit("the parent is gone")
    os.execv(command[0], command)  # noqa: S606 - it replaces this program, no shell is wanted


if __name__ == "__main__":
    main()
