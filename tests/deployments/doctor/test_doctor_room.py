"""Too little room is found before a server ends for want of it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from deployments import app
from deployments.doctor import room
from headrace.config import parse_config
from tests.onnx_models import publish_all

NO_LIMIT = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "state", "told"),
    [
        (NO_LIMIT, NO_LIMIT, "ok", ""),
        (65536, 65536, "ok", ""),
        (1024, 65536, "warn", "ulimit -n 8192"),
        (1024, 4096, "warn", "limits.conf"),
        (256, NO_LIMIT, "bad", "ulimit -n 8192"),
    ],
)
def test_open_files_must_suffice_for_connections(soft: int, hard: int, state: str, told: str) -> None:
    found = room.open_files(soft, hard)
    assert found.state == state
    assert told in found.advice


def test_little_memory_is_warned_of() -> None:
    assert room.memory(1 << 30).state == "warn"
    assert room.memory(4 << 30).state == "ok"


def test_models_must_fit_into_memory(tmp_path: Path) -> None:
    publish_all(tmp_path)
    config = app.pinned(parse_config({"repository": str(tmp_path), "models": {"double": {}}}))
    assert room.models(config, 1 << 30).state == "ok"
    found = room.models(config, 10)
    assert found.state == "warn"
    assert "fewer instances" in found.advice


def test_a_disk_is_asked_for_its_room(tmp_path: Path) -> None:
    assert "free of" in room.disk("disk", tmp_path).found
    assert room.disk("disk", tmp_path / "nowhere").state == "bad"


def test_shared_memory_may_be_missing(tmp_path: Path) -> None:
    assert room.shared_memory(tmp_path / "nowhere").state == "ok"
    assert room.shared_memory(tmp_path).name == "shared memory"


def test_this_machine_has_room() -> None:
    assert all(check.state != "bad" for check in room.checks(None))
