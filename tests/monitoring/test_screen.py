"""The terminal's screen says what the figures say, in whatever width there is."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from monitoring.screen import names, screen
from tests.monitoring.samples import figures, idle, model


def drawn(width: int, told: dict[str, Any] | None = None, chosen: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(screen(told or figures(), width, chosen))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def line(lines: list[str], begins: str) -> str:
    return next(text for text in lines if text.startswith(begins))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 150, 200])
def test_it_fits_the_terminal(width: int) -> None:
    lines = drawn(width)
    assert all(len(text) <= width for text in lines)
    assert not any("…" in text for text in lines if width >= 80)


def test_problems_and_rollouts_come_before_the_table() -> None:
    lines = drawn(80)
    assert lines[0].startswith("headrace 0.2.0  2 gateways  120 requests/s  0.25 errors/s  21:20:00 UTC")
    assert lines[1] == "! a gateway does not answer"
    assert lines[2] == "minilm: rollout of version 2, canary 5%, running: too few requests yet"


def test_a_version_is_a_row_with_its_figures() -> None:
    row = line(drawn(200), "minilm/1").split()
    assert row[:2] == ["minilm/1", "stable"]
    for told in ("95%", "114", "124", "4.00", "9.00", "13.0", "1/2", "5.00", "80%", "25%"):
        assert told in row
    assert row[-1].startswith("▃")
    assert row[-1].endswith("█")


def test_80_columns_keep_what_matters_most() -> None:
    head = line(drawn(80), "version").split()
    assert head == ["version", "share", "req/s", "P50", "P99", "err/s", "wait", "hits"]


def test_what_was_never_asked_has_no_latency() -> None:
    row = line(drawn(80), "digits/1").split()
    assert row[-5:] == ["-", "-", "0", "0", "-"]


def test_stages_are_those_of_the_model_that_is_asked_most_or_chosen() -> None:
    lines = drawn(80)
    stages = [text.split()[0] for text in lines[lines.index(line(lines, "wire")) :][:7]]
    assert stages == ["wire", "decode", "cache", "queue", "pad", "engine", "encode"]
    assert "65%" in line(lines, "engine")
    assert "digits: nothing was answered in the last minute" in drawn(80, chosen="digits")


def test_processes_that_take_most_come_first_with_their_gpus() -> None:
    lines = drawn(120)
    at = lines.index(line(lines, "process"))
    assert lines[at + 1].startswith("replica minilm/1  1.25  286 MiB")
    assert "0: 40%, 1.00 GiB of 80.0 GiB" in lines[at + 1]
    assert lines[at + 2].startswith("gateway")


def test_the_cache_is_told_in_a_line() -> None:
    told = "cache: 120 in memory (1000 B of 64.0 MiB), 10 shared (4.88 KiB of 256 MiB)"
    assert drawn(80)[-1] == told


def test_an_empty_server_has_a_screen_too() -> None:
    told = {**figures(), "models": [], "processes": [], "problems": []}
    assert any("no model is served" in text for text in drawn(80, told))
    told = {**figures(), "models": [model("m", [idle()])]}
    assert any(text.startswith("m/1") for text in drawn(80, told))


def test_models_are_chosen_by_their_names() -> None:
    assert names(figures()) == ["digits", "minilm"]
