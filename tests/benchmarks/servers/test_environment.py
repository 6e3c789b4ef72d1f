"""The environments of other servers are the same wherever they are made."""

from __future__ import annotations

import re

import pytest

from benchmarks.servers.environment import HERE, environment, packages, python

PIN = re.compile(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+")
NAMES = ("litserve", "bentoml", "triton")


@pytest.mark.parametrize("name", NAMES)
def test_every_package_is_pinned_and_the_engine_is_the_same(name: str) -> None:
    lines = (HERE / f"{name}.txt").read_text(encoding="utf-8").split()
    assert all(PIN.fullmatch(line) for line in lines)
    assert "onnxruntime==1.32.0" in lines
    assert not any(line.startswith("torch==") for line in lines)


def test_an_environment_that_is_there_is_taken_as_it_is(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requirements = tmp_path / "empty.txt"
    requirements.write_text("")
    monkeypatch.setattr("benchmarks.servers.environment.HERE", tmp_path)
    monkeypatch.setattr("benchmarks.servers.environment.FOLDER", tmp_path / "venvs")
    folder = environment("empty")
    assert python(folder).exists()
    assert packages(folder).is_dir()
    assert "once" in capsys.readouterr().err
    marker = folder / "marker"
    marker.touch()
    assert environment("empty") == folder
    assert marker.exists()
    assert capsys.readouterr().err == ""
    requirements.write_text("# changed\n")
    environment("empty")
    assert not marker.exists()
