import logging
import sys

import pytest

from engines import cpu
from engines.load import load
from headrace.errors import EngineUnavailable


def test_an_unknown_engine_says_what_there_is(publish):
    with pytest.raises(EngineUnavailable, match=r"engine 'abacus' unavailable: .*'onnxruntime', 'openvino'"):
        load(publish(engine="abacus"), threads=1)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_missing_library_says_what_to_install(publish, monkeypatch, engine):
    published = publish(engine=engine)
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(EngineUnavailable, match=f"engine '{engine}' unavailable: .*pip install '?{engine}"):
        load(published, threads=1)


def test_a_machine_that_lacks_instructions_is_warned_of(repository, publish, monkeypatch, caplog, tmp_path):
    (tmp_path / "cpuinfo").write_text("flags : avx2 amx_int8\n")
    with monkeypatch.context() as other:
        other.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
        published = publish()
    (tmp_path / "cpuinfo").write_text("flags : avx2\n")
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    with caplog.at_level(logging.WARNING):
        load(published, threads=1)
    assert "text/1 was measured on a CPU with amx_int8" in caplog.text
