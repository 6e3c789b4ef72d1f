from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.driver import Device, Driver, find_driver
from headrace.errors import EngineUnavailable

ROOT = Path(__file__).resolve().parents[2]


def instead(tmp_path: Path, program: str) -> dict[str, str]:
    """An environment in which this is what the process that asks the driver does."""
    (tmp_path / "sitecustomize.py").write_text(f"import os, sys, time\n{program}\n")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}


def has_driver() -> bool:
    done = subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.CDLL('libcuda.so.1')"], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(has_driver(), reason="there is a driver here")
def test_without_a_driver_it_says_so_and_what_to_do() -> None:
    with pytest.raises(EngineUnavailable, match=r"no NVIDIA driver .*in a container, start it with its GPUs"):
        find_driver()


def test_a_driver_that_takes_its_process_with_it_leaves_ours(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"ended the process that asked it \(signal 11\)"):
        find_driver(instead(tmp_path, "os.kill(os.getpid(), 11)"))


def test_a_driver_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="failed"):
        find_driver(instead(tmp_path, "os._exit(1)"))


TOLD = '{"cuda": "13.0", "devices": [{"name": "A", "architecture": "8.9", "memory_bytes": 5}]}'


def test_what_the_driver_tells_is_read(tmp_path: Path) -> None:
    found = find_driver(instead(tmp_path, f"print({TOLD!r}, flush=True); os._exit(0)"), least="12.8")
    assert found == Driver("13.0", (Device("A", "8.9", 5),))


def test_a_driver_that_is_too_old_is_named_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"runs CUDA 13.0 at most, and CUDA 13.1 is needed"):
        find_driver(instead(tmp_path, f"print({TOLD!r}, flush=True); os._exit(0)"), least="13.1")
