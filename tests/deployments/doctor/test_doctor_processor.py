"""What the processor can do, how much of it there is, and who asks for more."""

from __future__ import annotations

from pathlib import Path

from deployments import app
from deployments.doctor import processor
from headrace.config import Config, parse_config
from tests.onnx_models import publish_all


def config(root: Path, threads: int) -> Config:
    publish_all(root)
    document = {"repository": str(root), "gateways": 2, "models": {"double": {"threads": threads}}}
    return app.pinned(parse_config(document))


def test_int8_without_its_instructions_is_a_warning_and_not_an_error() -> None:
    assert processor.int8({"avx2"}).state == "warn"
    assert processor.int8({"avx512_vnni", "amx_int8"}).found == "AMX, AVX-512 VNNI"
    assert processor.int8({"i8mm"}).state == "ok"


def test_bf16_is_never_worse_than_ok() -> None:
    assert processor.bf16(set()).state == "ok"
    assert "no time" in processor.bf16(set()).found
    assert processor.bf16({"amx_bf16"}).found == "AMX"


def test_an_old_processor_is_warned_of() -> None:
    assert processor.fp32({"avx"}).state == "warn"
    assert processor.fp32({"avx2", "avx512f"}).found == "AVX-512, AVX2"


def test_a_quota_below_the_cores_is_told() -> None:
    assert processor.cores_to_use(8, 8, None).found == "8"
    assert processor.cores_to_use(2, 8, 2.0).found == "2 of the machine's 8"
    found = processor.cores_to_use(8, 8, 1.5)
    assert found.state == "warn"
    assert "no more than 1 threads" in found.advice


def test_the_quota_is_read_as_either_kind_of_container_has_it(tmp_path: Path) -> None:
    assert processor.quota_of(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert processor.quota_of(tmp_path) is None
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("250000\n")
    assert processor.quota_of(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert processor.quota_of(tmp_path) is None
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert processor.quota_of(tmp_path) == 0.5


def test_more_threads_than_cores_are_warned_of_by_variable() -> None:
    assert processor.thread_variables({}, 2).state == "ok"
    assert processor.thread_variables({"OMP_NUM_THREADS": "2"}, 2).state == "ok"
    found = processor.thread_variables({"OMP_NUM_THREADS": "16", "MKL_NUM_THREADS": "1"}, 2)
    assert (found.state, found.found) == ("warn", "OMP_NUM_THREADS=16, MKL_NUM_THREADS=1")
    assert found.advice.endswith("unset OMP_NUM_THREADS")
    assert processor.thread_variables({"OMP_NUM_THREADS": "many"}, 2).state == "warn"


def test_a_configuration_that_asks_for_more_threads_than_there_are_cores_is_warned_of(tmp_path: Path) -> None:
    asked = config(tmp_path, threads=4)
    (found,) = [check for check in processor.asked_for(asked, 4) if check.state == "warn"]
    assert found.found == "2 with 4 threads each, on 4 cores"
    assert "headrace tune double" in found.advice
    assert all(check.state == "ok" for check in processor.asked_for(asked, 8))


def test_this_machine_has_a_processor() -> None:
    assert {"processor", "INT8", "cores", "thread variables"} <= {c.name for c in processor.checks(None)}
