"""Engines that work, and stand-ins that are broken in the ways engines are."""

import os
from pathlib import Path

import pytest

from engines.probe import probe


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a module of the given text in an engine's place."""

    def place(name: str, text: str) -> None:
        Path(tmp_path, f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)

    return place


def test_onnxruntime_computes_here():
    assert probe("onnxruntime") == ""


def test_openvino_computes_here_and_tells_nobody(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed", exc_type=ImportError)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert probe("openvino") == ""
    assert os.listdir(tmp_path) == []  # noqa: PTH208  its telemetry would have left an id


def test_an_engine_that_is_not_installed_says_how_to_get_it(stand_in):
    stand_in("openvino", "raise ModuleNotFoundError(\"No module named 'openvino'\")")
    wanted = "it cannot be imported (No module named 'openvino'); install with: pip install openvino"
    assert probe("openvino") == wanted


def test_a_missing_library_of_an_engine_is_named(stand_in):
    stand_in("openvino", "raise ImportError('libtbb.so.12: cannot open shared object file')")
    assert "libtbb.so.12" in probe("openvino")


def test_an_engine_that_dies_by_a_signal_does_not_take_us_along(stand_in):
    stand_in("openvino", "import os, signal; os.kill(os.getpid(), signal.SIGFPE)")
    assert probe("openvino") == "it died by signal SIGFPE on this processor"


def test_wrong_results_are_found(stand_in):
    stand_in(
        "openvino",
        """
import numpy as np
class Any:
    data = np.zeros((2, 16))
    def __getattr__(self, name): return lambda *_, **__: self
Core = Any
print("and it talks")
""",
    )
    assert probe("openvino") == "it computes wrong results on this processor"


def test_an_engine_that_raises_says_what(stand_in):
    stand_in("openvino", "class Core:\n    def __init__(self): raise RuntimeError('no such ISA')")
    assert probe("openvino") == "it does not work here: RuntimeError: no such ISA"


def test_an_engine_that_hangs_is_ended(stand_in):
    stand_in("openvino", "import time; time.sleep(60)")
    assert probe("openvino", timeout_s=1.5) == "it gave no answer within 1.5 s"


def test_tensorrt_without_a_gpu_is_refused(stand_in):
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    stand_in("tensorrt", "")
    assert "NVIDIA driver" in probe("tensorrt") or "no GPU" in probe("tensorrt")


def test_an_unknown_engine_says_which_there_are():
    assert probe("abacus") == "there is no engine 'abacus'; there are: onnxruntime, openvino, tensorrt"
