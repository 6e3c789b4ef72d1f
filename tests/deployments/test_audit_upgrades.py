"""Newer releases come from pip alone, are gone afterwards, and their failure ends nothing."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deployments.audit_facts import Sources, gather
from deployments.audit_upgrades import newest, with_upgrades
from headrace.errors import EngineUnavailable
from tests.onnx_models import publish_sized


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip can get; no index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return folder


def wheel(shelf: Path, name: str, version: str, source: str) -> None:
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": source,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(shelf / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, text in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(file, text)


def test_the_newest_release_is_there_for_the_block_alone(shelf: Path) -> None:
    for version in ("1.9", "1.10"):
        wheel(shelf, "headrace_probe", version, "")
    with newest("headrace_probe") as (found, python):
        assert found == "1.10"
        told = "import headrace_probe, numpy; print(headrace_probe.__file__, numpy.__file__)"
        done = subprocess.run([python, "-c", told], capture_output=True, text=True, check=True)
        probe, other = done.stdout.split()
        assert Path(probe).is_relative_to(python.parent.parent)
        assert other == np.__file__  # all else is as here
    assert not python.exists()


def test_offline_is_told(shelf: Path) -> None:
    with (
        pytest.raises(EngineUnavailable, match=r"pip could not install it: .*headrace_probe"),
        newest("headrace_probe"),
    ):
        pass


@pytest.mark.parametrize(
    ("releases", "told"),
    [
        ([], "newer releases of onnxruntime: pip could not install it"),
        (["99.0"], "double/3 with onnxruntime 99.0: engine 'onnxruntime' unavailable: a broken release"),
        (["0.1"], ""),
    ],
)
def test_what_cannot_be_measured_is_told_and_the_audit_goes_on(
    releases: list[str], told: str, shelf: Path, tmp_path: Path
) -> None:
    publish_sized(tmp_path / "models")
    config = tmp_path / "serve.yaml"
    config.write_text("repository: models\nmodels: {double: {}}\n")
    for version in releases:
        wheel(shelf, "onnxruntime", version, "raise ImportError('a broken release')")
    facts = gather(Sources(config, None))
    said: list[str] = []
    found = with_upgrades(facts, 4.0, said.append)
    assert found.upgrades == ()
    unknown = found.unknown[len(facts.unknown) :]
    if told:
        assert told in unknown[0]
    else:
        assert unknown == ()
        assert "no newer onnxruntime" in said[-1]
