"""Makes one candidate in a process of its own: a crash there is only that candidate's.

`run` starts it and waits; `python -m optimize.worker SOURCE TARGET` is what runs inside.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from headrace.errors import ConfigRejected, EngineFailed, HeadraceError

_REFUSED = 3  # exit status; the reason is the last line of stderr


def run(source: Path, target: Path, timeout_s: float = 3600.0) -> Path:
    """`target`, made from `source`. ConfigRejected: refused, with the reason; EngineFailed: it crashed."""
    command = [sys.executable, "-m", "optimize.worker", str(source), str(target)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        ended = subprocess.run(  # noqa: S603  our own module, no shell
            command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as err:
        raise EngineFailed(f"making the candidate took longer than {timeout_s:g} s") from err
    lines = ended.stderr.strip().splitlines() or ["no message"]
    if ended.returncode == _REFUSED:
        raise ConfigRejected(lines[-1])
    if ended.returncode < 0:
        raise EngineFailed(f"making the candidate ended by signal {-ended.returncode} (9: out of memory?)")
    if ended.returncode != 0:
        raise EngineFailed(f"making the candidate failed: {lines[-1]}")
    return target


def main(source: str, target: str) -> int:
    from optimize.quantize import quantize_dynamic

    try:
        quantize_dynamic(Path(source), Path(target))
    except HeadraceError as err:
        sys.stderr.write(f"\n{err}\n")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
