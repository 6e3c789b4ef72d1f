"""Where a baseline was recorded, and what has changed since."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.cpu import cpu_cores, cpu_model
from headrace.errors import EngineUnavailable
from rollout.fingerprint import Fingerprint, Gpu, differences, fingerprint, fingerprint_of, parse_gpus


def test_this_machine_is_known_by_its_parts() -> None:
    found = fingerprint()
    assert (found.cpu, found.cores) == (cpu_model(), cpu_cores())
    assert found.python == platform.python_version()
    assert found.libraries["numpy"] == np.__version__
    assert "onnxruntime" in found.libraries
    assert platform.release() in found.system
    assert Fingerprint.model_validate_json(found.model_dump_json()) == found


def test_the_same_machine_is_the_same() -> None:
    assert differences(fingerprint(), fingerprint()) == []


def test_each_difference_is_told_with_both_values() -> None:
    now = fingerprint()
    gpu = Gpu(name="Some GPU", memory_mib=1000, driver="550.1")
    libraries = {"numpy": now.libraries["numpy"], "onnxruntime": "1.30.0"}
    before = now.model_copy(update={"cores": 64, "libraries": libraries, "gpus": (gpu,)})
    told = differences(before, now)
    assert f"the number of cores was 64, now {now.cores}" in told
    assert f"onnxruntime was 1.30.0, now {now.libraries['onnxruntime']}" in told
    assert "GPU 0 was Some GPU, driver 550.1, now not there" in told or now.gpus
    assert not any(entry.startswith("numpy") for entry in told)


def test_gpus_are_read_as_their_driver_lists_them() -> None:
    text = "NVIDIA H100 80GB HBM3, 81559, 570.86.15\nNVIDIA T4, [N/A], 550.54\nNo devices were found\n"
    assert parse_gpus(text) == (
        Gpu(name="NVIDIA H100 80GB HBM3", memory_mib=81559, driver="570.86.15"),
        Gpu(name="NVIDIA T4", memory_mib=0, driver="550.54"),
    )


def test_another_environment_tells_its_own() -> None:
    assert fingerprint_of(Path(sys.executable)) == fingerprint()


def test_an_environment_that_cannot_run_us_is_told_with_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="python of the other environment cannot run Headrace"):
        fingerprint_of(tmp_path / "python")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no module named pydantic >&2; exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(EngineUnavailable, match=r"no module named pydantic\. It needs pydantic"):
        fingerprint_of(broken)
