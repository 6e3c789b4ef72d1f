"""Versions that were damaged, made elsewhere or left half done are found."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deployments.doctor import repository
from deployments.doctor.check import Check
from engines.artifact import Repository
from engines.cpu import cpu_cores, cpu_flags
from engines.manifest import Machine, Tuned
from headrace.config import Config, parse_config
from tests.onnx_models import publish_all


@pytest.fixture
def config(tmp_path: Path) -> Config:
    publish_all(tmp_path)
    return parse_config({"repository": str(tmp_path), "models": {"double": {"versions": ["1", "2"]}}})


def looked_at(asked: Config) -> dict[str, Check]:
    return {check.name: check for check in repository.checks(asked)}


def test_a_whole_repository_is_well(config: Config) -> None:
    found = looked_at(config)
    assert {check.state for check in found.values()} == {"ok"}
    assert "with every file as published" in found["versions"].found


def test_a_changed_byte_is_found(config: Config, tmp_path: Path) -> None:
    graph = next((tmp_path / "double" / "2").glob("*.onnx"))
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    found = looked_at(config)
    assert found["double/2"].state == "bad"
    assert "SHA-256 differs" in found["double/2"].found


def test_a_version_that_is_not_there_is_what_serving_would_end_with(tmp_path: Path, config: Config) -> None:
    asked = parse_config({"repository": str(tmp_path), "models": {"double": {"versions": ["9"]}}})
    found = looked_at(asked)["configuration"]
    assert found.state == "bad"
    assert "no version '9'" in found.found


def test_a_repository_that_is_not_there_is_told(tmp_path: Path) -> None:
    asked = parse_config({"repository": str(tmp_path / "nowhere"), "models": {"m": {}}})
    (found,) = repository.checks(asked)
    assert (found.name, found.state) == ("repository", "bad")


def test_a_version_of_another_processor_is_warned_of(tmp_path: Path, config: Config) -> None:
    artifact = Repository(tmp_path).open("double", "1")
    here = set(cpu_flags())
    assert list(repository.elsewhere(artifact, here, cpu_cores())) == []
    if here:
        (found,) = repository.elsewhere(artifact, set(), cpu_cores())
        assert "other speeds" in found.advice
    tuned = Tuned(
        instances=1,
        threads=1,
        max_batch=8,
        max_padding=0.1,
        grouping="exact",
        machine=Machine(cpu="x", cores=cpu_cores() + 1),
    )
    artifact = Repository(tmp_path).set_tuned(artifact, tuned)
    (found,) = repository.elsewhere(artifact, here, cpu_cores())
    assert f"tuned for {cpu_cores() + 1} cores" in found.found


def test_what_a_killed_publisher_has_left_is_found_once_it_is_old(tmp_path: Path, config: Config) -> None:
    left = tmp_path / "double" / ".3-abcdefgh"
    left.mkdir()
    now = time.time()
    assert [check.state for check in repository.leftovers(tmp_path, now)] == ["ok"]
    os.utime(left, (now - 7200, now - 7200))
    (found,) = repository.leftovers(tmp_path, now)
    assert found.state == "warn"
    assert f"rm -r -- {left}" in found.advice
