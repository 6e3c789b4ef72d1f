"""Flame graphs: a real one of this process, and the reasons for which there is none."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from engines.load import load
from headrace.errors import ToolFailed
from profiling import pyspy
from profiling.commands import find
from tests.onnx_models import publish_all


def frame(name: str, y: int, x: int, width: int) -> str:
    return (
        f'<g><title>{name} ({width} samples, 1.00%)</title><rect x="0%" y="{y}" width="9%" height="15" '
        f'fill="rgb(1,2,3)" fg:x="{x}" fg:w="{width}"/></g>'
    )


def test_a_function_has_the_samples_that_ended_in_it() -> None:
    graph = "".join(
        [
            frame("all", 36, 0, 100),
            frame("main (a.py:1)", 52, 0, 100),
            frame("&lt;module&gt; (b.py:2)", 68, 0, 60),
            frame("0x12ab (lib/native.so)", 68, 60, 30),
            frame("0x12ff (lib/native.so)", 84, 60, 10),
        ]
    )
    whole, own = pyspy.own_samples(graph)
    assert whole == 100
    assert own == {"all": 0, "main (a.py:1)": 10, "<module> (b.py:2)": 60, "native code (native.so)": 30}


@pytest.mark.parametrize("is_live", [True, False])
def test_this_process_is_sampled_and_the_sampler_ends(tmp_path: Path, is_live: bool) -> None:
    engine = load(publish_all(tmp_path).open("double", "1"), 1)
    tool = pyspy.PySpyTool(is_live=is_live)
    done = threading.Event()

    def busy_in_this_test() -> None:
        while not done.is_set():
            sum(range(1000))

    thread = threading.Thread(target=busy_in_this_test)
    thread.start()
    try:
        tool.begin(engine, 2.0)
        done.wait(1.5)
    except ToolFailed as err:
        assert "SYS_PTRACE" in str(err)  # noqa: PT017
        pytest.skip("this kernel lets no process trace another")
    finally:
        raw = tool.end()
        done.set()
        thread.join()
    found = pyspy.read(raw.files, raw.facts)
    assert any("busy_in_this_test" in row.name for row in found.tables[0].rows)
    assert not tool.is_enough()


def test_without_the_right_to_trace_it_says_which_and_how_to_give_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = tmp_path / "py-spy"
    refuses.write_text("#!/bin/sh\necho 'Error: Permission Denied (os error 1)' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    engine = load(publish_all(tmp_path / "models").open("double", "1"), 1)
    alone = pyspy.PySpyTool(is_live=False)
    with pytest.raises(
        ToolFailed, match=r"Permission Denied.*SYS_PTRACE.*as root the command that profiles it"
    ):
        alone.begin(engine, 1.0)
    assert alone.end().files == {}
    live = pyspy.PySpyTool(is_live=True)
    by_hand = r"py-spy record --pid \d+ --duration 7 .* --output py-spy.svg$"  # into the folder one is in
    with pytest.raises(ToolFailed, match=by_hand):
        live.begin(engine, 7.0)
    assert live.end().files == {}


def test_without_py_spy_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ToolFailed, match="pip install py-spy"):
        pyspy.PySpyTool(is_live=False)


def test_a_program_is_found_in_the_newest_of_its_folders(tmp_path: Path) -> None:
    for release in ("2024.1", "2025.3"):
        (tmp_path / release / "bin").mkdir(parents=True)
        (tmp_path / release / "bin" / "some-profiler").touch()
    assert find("some-profiler", f"{tmp_path}/*/bin") == str(tmp_path / "2025.3" / "bin" / "some-profiler")
    assert find("some-profiler", str(tmp_path)) is None
