from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from engines.plans import MOST_PLANS, Key, Plans
from engines.profiles import Profile
from engines.trt_build import Recipe
from headrace.errors import ConfigRejected

PROFILE = Profile({"batch": 1}, {"batch": 8}, {"batch": 8})
KEY = Key.of("0" * 64, Recipe((PROFILE,)), "tensorrt 11.4.0", "8.9")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plans"


def test_what_was_kept_is_had_again(folder: Path) -> None:
    plans = Plans(folder)
    assert plans.get(KEY) is None
    plans.put(KEY, b"plan")
    assert Plans(folder).get(KEY) == b"plan"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "change",
    [
        {"graph": "1" * 64},
        {"library": "tensorrt 11.5.0"},
        {"gpu": "9.0"},
        {"recipe": Key.of("0" * 64, Recipe((PROFILE,), is_sparse=True), "", "").recipe},
    ],
)
def test_another_graph_release_gpu_or_recipe_is_another_plan(folder: Path, change: dict[str, str]) -> None:
    plans = Plans(folder)
    plans.put(KEY, b"plan")
    assert plans.get(dataclasses.replace(KEY, **change)) is None


def test_a_plan_that_is_not_what_was_kept_is_built_anew(folder: Path) -> None:
    plans = Plans(folder)
    plans.put(KEY, b"plan")
    (folder / KEY.file).write_bytes(b"another")
    assert plans.get(KEY) is None
    plans.put(KEY, b"new")
    assert plans.get(KEY) == b"new"


@pytest.mark.parametrize("note", ["", "{", "[]", json.dumps({"key": None, "sha256": ""})])
def test_a_damaged_note_makes_no_error(folder: Path, note: str) -> None:
    plans = Plans(folder)
    plans.put(KEY, b"plan")
    (folder / KEY.file).write_text(f"{note}\nplan")
    assert plans.get(KEY) is None


def test_a_plan_may_hold_any_bytes(folder: Path) -> None:
    plans = Plans(folder)
    plans.put(KEY, b"\n{}\n\x00\n")
    assert plans.get(KEY) == b"\n{}\n\x00\n"
    plans.drop(KEY)
    plans.drop(KEY)
    assert plans.get(KEY) is None


def test_of_too_many_those_used_longest_ago_go(folder: Path) -> None:
    plans = Plans(folder)
    keys = [dataclasses.replace(KEY, graph=f"{number + 1:064}") for number in range(MOST_PLANS)]
    for number, key in enumerate(keys):
        plans.put(key, b"plan")
        os.utime(folder / key.file, (number, number))
    assert plans.get(keys[0]) == b"plan"  # used now
    plans.put(KEY, b"plan")
    left = [key for key in keys if (folder / key.file).exists()]
    assert left == [keys[0], *keys[2:]]
    assert plans.get(KEY) == b"plan"


def test_a_folder_that_others_may_write_into_is_refused(folder: Path, tmp_path: Path) -> None:
    plans = Plans(folder)
    plans.put(KEY, b"plan")
    folder.chmod(0o770)
    with pytest.raises(ConfigRejected, match="mode 0700"):
        plans.get(KEY)
    folder.chmod(0o700)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigRejected):
        Plans(tmp_path / "link").get(KEY)


def test_a_link_in_the_place_of_a_plan_is_not_followed(folder: Path, tmp_path: Path) -> None:
    plans = Plans(folder)
    plans.put(KEY, b"plan")
    outside = tmp_path / "outside"
    outside.write_bytes(b"plan")
    (folder / KEY.file).unlink()
    (folder / KEY.file).symlink_to(outside)
    assert plans.get(KEY) is None


def test_measured_times_are_kept_for_each_gpu_and_release(folder: Path) -> None:
    plans = Plans(folder)
    assert plans.timing_cache("tensorrt 11.4.0", "8.9") == b""
    plans.put_timing_cache("tensorrt 11.4.0", "8.9", b"times")
    assert plans.timing_cache("tensorrt 11.4.0", "8.9") == b"times"
    assert plans.timing_cache("tensorrt 11.4.0", "9.0") == b""
    assert plans.timing_cache("tensorrt 11.5.0", "8.9") == b""
