"""Which versions are served, by configuration and by what rollouts have left."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.versions import app_name, chosen_versions
from engines.artifact import Repository
from headrace.config import ModelConfig
from headrace.errors import NotFound
from rollout import state as states
from rollout.state import FILE
from rollout.store import Store
from tests.onnx_models import publish_all


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return publish_all(tmp_path)  # `double` has versions 1 and 2


def keep(repository: Repository, version: str) -> None:
    """As after a rollout to this version."""
    Store(repository.root).change("double", "9", lambda state: state.model_copy(update={"stable": version}))


def chosen(repository: Repository, *versions: str) -> list[str]:
    return chosen_versions(repository, "double", ModelConfig(versions=list(versions)))


def test_without_a_rollout_the_configuration_says_it_or_the_newest_answers(repository: Repository) -> None:
    assert chosen(repository) == ["2"]
    assert chosen(repository, "1") == ["1"]
    assert chosen(repository, "2", "1") == ["2", "1"]


def test_what_a_rollout_has_left_answers_whatever_the_configuration_says(repository: Repository) -> None:
    keep(repository, "1")
    assert chosen(repository) == ["1"]
    assert chosen(repository, "2") == ["1"]
    assert chosen(repository, "1", "2") == ["1"]


def test_versions_before_the_last_one_are_served_by_name(repository: Repository) -> None:
    keep(repository, "1")
    assert chosen(repository, "2", "1") == ["2", "1"]


def test_a_damaged_file_leaves_the_version_of_the_state_before(repository: Repository) -> None:
    keep(repository, "1")
    Store(repository.root).change(
        "double", "9", lambda state: states._changed(state, 0.0, "held", "1", 100.0, "")
    )
    (repository.root / "double" / FILE).write_text("{")
    assert chosen(repository, "2") == ["1"]


def test_a_version_that_is_not_there_is_told(repository: Repository) -> None:
    with pytest.raises(NotFound, match="no version '7'; there are: 1, 2"):
        chosen(repository, "7")


def test_no_two_versions_share_an_application() -> None:
    assert app_name("a", "b") == "headrace:a:b"
