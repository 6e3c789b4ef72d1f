"""A virtual environment for each other server, made on first use from pinned requirements."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from headrace.errors import EngineUnavailable

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
FOLDER = HERE.parents[1] / "out" / "venvs"
_STAMP = "requirements.sha256"


def environment(name: str) -> Path:
    """The folder of the environment that NAME.txt describes; EngineUnavailable when it cannot be made."""
    requirements = HERE / f"{name}.txt"
    folder = FOLDER / name
    # It belongs to one interpreter: another Python makes it anew.
    told = f"{sys.version}\n{sys.base_prefix}\n{requirements.read_text(encoding='utf-8')}"
    digest = hashlib.sha256(told.encode()).hexdigest()
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return folder
    sys.stderr.write(f"installing {name} into {folder}, once\n")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(python(folder)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # Everything is pinned; and Triton's own bounds are narrower than its files need.
    command += ["--no-deps", "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        raise EngineUnavailable(f"{name} could not be installed: {lines[-1]}")
    stamp.write_text(digest, encoding="utf-8")
    return folder


def python(folder: Path) -> Path:
    return folder / "bin" / "python"


def packages(folder: Path) -> Path:
    """Where the packages of an environment lie."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"
