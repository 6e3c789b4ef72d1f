"""Runs a command and ends its whole process group with it: `python group.py COMMAND ...`

It must lead a group of its own. Servers start workers that outlive them when they are ended hard.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

GRACE_S = 10.0


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    command = subprocess.Popen(sys.argv[1:])
    try:
        command.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        command.terminate()
        try:
            command.wait(GRACE_S)
        finally:
            os.killpg(0, signal.SIGKILL)  # this process, too


if __name__ == "__main__":
    main()
