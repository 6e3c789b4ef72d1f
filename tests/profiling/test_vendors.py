"""Nsight and VTune, which are not here: the messages, the exact commands, and that these commands are run."""

from __future__ import annotations

import os
import stat
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from engines.base import Engine
from engines.load import load
from headrace.errors import ToolFailed
from profiling import nsight, vtune
from profiling.outcome import Raw
from tests.onnx_models import publish_all

NSYS = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
  sessions) echo "1 00:10 Launched 1 headrace" ;;
  start) for a in "$@"; do case "$a" in --output=*) echo report > "${{a#--output=}}" ;; esac; done ;;
esac
"""
VTUNE = """#!/bin/sh
echo "$@" >> {log}
head -c 200000 /dev/zero | tr '\\0' '.'
while [ "$1" != -result-dir ]; do shift; done
mkdir -p "$2" && echo samples > "$2/data"
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return load(publish_all(tmp_path / "models").open("double", "1"), 1)


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An executable of that name on the PATH, which notes how it is called."""
    log = folder / f"{name}.log"
    file = folder / name
    file.write_text(text.format(log=log))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return log


def test_without_nsys_it_says_how_to_get_it_and_what_to_run() -> None:
    with pytest.raises(ToolFailed) as caught:
        nsight.NsightTool("minilm", "2", 10.0)
    told = str(caught.value)
    assert "apt-get install nsight-systems-cli" in told
    assert "nsys cannot attach to a process that runs already" in told
    assert "nsys launch --session-new=headrace --trace=cuda,nvtx,osrt headrace serve CONFIG" in told
    assert "ncu --target-processes all --nvtx --nvtx-include 'headrace@engine/'" in told
    assert "headrace profile minilm --version 2 --repository REPOSITORY --with nsight" in told


def test_a_deployment_under_nsys_is_collected_for_as_long_as_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    log = program(tmp_path, "nsys", NSYS, monkeypatch)
    tool = nsight.NsightTool("minilm", "2", 10.0)
    assert tool.begin(engine, 10.0) is engine
    assert not tool.is_enough()
    raw = tool.end()
    assert raw.files == {nsight.REPORT: b"report\n"}
    said = log.read_text().splitlines()
    assert said[0] == "sessions list"
    assert said[1].startswith("start --session=headrace --output=")
    assert said[2] == "stop --session=headrace"
    assert tool.end() == Raw()
    assert nsight.found(raw).view[0] == f"nsys-ui {{out}}/{nsight.REPORT}"


def test_what_nsys_or_ncu_has_started_only_marks_its_ranges(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setenv("NVTX_INJECTION64_PATH", "/nowhere.so")
    tool = nsight.NsightTool("minilm", "2", 10.0)
    tool.begin(engine, 10.0)
    assert "writes its report by itself" in tool.end().notes[0]


def test_an_artifact_alone_is_run_under_nsys_while_its_range_is_open() -> None:
    command = nsight.around("nsys", Path("out"), ["python", "-m", "deployments.cli"])
    assert command[:3] == ["nsys", "profile", "--trace=cuda,nvtx,osrt"]
    assert "--nvtx-capture=profile@headrace" in command
    assert command[-4:] == [f"--output=out/{nsight.REPORT}", "python", "-m", "deployments.cli"]


def test_without_vtune_it_says_how_to_get_it_and_the_command_with_this_process() -> None:
    with pytest.raises(ToolFailed) as caught:
        vtune.VtuneTool(7.0)
    told = str(caught.value)
    assert "apt-get install intel-oneapi-vtune" in told
    assert f"vtune -collect hotspots -target-pid {os.getpid()} -duration 7 -result-dir" in told
    assert "INTEL_LIBITTNOTIFY64" in told
    with pytest.raises(ToolFailed) as caught:
        vtune.VtuneTool(7.0, "headrace profile minilm")
    told = str(caught.value)
    assert "vtune -collect hotspots -result-dir vtune-result -- headrace profile minilm\n" in told
    assert "-target-pid" not in told  # of a process that has ended by then


def test_a_process_that_vtune_has_started_only_marks_its_ranges(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setenv("INTEL_LIBITTNOTIFY64", "/nowhere.so")
    tool = vtune.VtuneTool(7.0, "headrace profile minilm")
    assert tool.begin(engine, 7.0) is engine
    assert not tool.is_enough()
    raw = tool.end()
    assert "writes its result by itself" in raw.notes[0]
    assert not vtune.found(raw).view


def test_vtune_is_attached_to_this_process_and_its_result_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    log = program(tmp_path, "vtune", VTUNE, monkeypatch)
    tool = vtune.VtuneTool(3.0)
    assert tool.begin(engine, 3.0) is engine
    raw = tool.end()
    assert log.read_text().startswith(
        f"-collect hotspots -target-pid {os.getpid()} -duration 38 "
    )  # and is ended by us
    with tarfile.open(fileobj=BytesIO(raw.files[vtune.PACKED])) as archive:
        assert "vtune/data" in archive.getnames()
    assert "libittnotify_collector" in raw.notes[0]


def test_what_vtune_says_when_it_fails_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    program(tmp_path, "vtune", "#!/bin/sh\necho 'cannot attach: no permission'\nexit 3\n", monkeypatch)
    tool = vtune.VtuneTool(3.0)
    with pytest.raises(ToolFailed, match="cannot attach: no permission"):
        tool.begin(engine, 3.0)
    assert tool.end() == Raw()
