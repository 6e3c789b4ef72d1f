from __future__ import annotations

from pathlib import Path

import psutil

from headrace.room import available_bytes, left_in


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_outside_a_container_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert left_in(tmp_path) is None
    write(tmp_path, memory__max="max", memory__current="1000")
    assert left_in(tmp_path) is None
    assert 0 < available_bytes(tmp_path) <= psutil.virtual_memory().total


def test_a_container_has_what_it_has_not_used_of_its_limit(tmp_path: Path) -> None:
    write(tmp_path, memory__max="3000", memory__current="1000")
    assert left_in(tmp_path) == available_bytes(tmp_path) == 2000


def test_one_that_has_used_all_has_nothing(tmp_path: Path) -> None:
    write(tmp_path, memory__max="3000", memory__current="3500")
    assert left_in(tmp_path) == available_bytes(tmp_path) == 0


def test_files_that_were_read_are_given_up_when_memory_is_wanted(tmp_path: Path) -> None:
    stat = "anon 500\nfile 2400\ninactive_file 2000\nactive_file 400"
    write(tmp_path, memory__max="3000", memory__current="2900", memory__stat=stat)
    assert left_in(tmp_path) == 2100


def test_the_older_way_to_tell_a_limit_counts_too(tmp_path: Path) -> None:
    write(
        tmp_path / "memory",
        memory__limit_in_bytes="3000",
        memory__usage_in_bytes="2500",
        memory__stat="total_inactive_file 300",
    )
    assert left_in(tmp_path) == 800
    write(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712")
    assert left_in(tmp_path) is None
