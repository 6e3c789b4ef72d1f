"""headrace bench measures a running server, and says in one line what is wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deployments.ports import free_ports
from optimize.inputs import write_inputs
from tests.conftest import Running
from tests.processes import ROOT, headrace


def bench(running: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    return headrace("bench", running.server.url, "--warm-up", "0.5", *arguments)


def test_a_closed_loop_is_measured_saved_and_compared(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.json"
    done = bench(running, "--model", "double", "--seconds", "2", "--rows", "3", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "clients 8, rows 3, length 16, requests all different" in done.stdout
    assert "█" in done.stdout
    saved = json.loads(file.read_text())
    figures = saved["figures"]
    assert (
        figures["requests"]
        == sum(saved["statuses"].values())
        == sum(window["requests"] for window in saved["windows"])
    )
    assert figures["rows_per_s"] == pytest.approx(3 * figures["requests_per_s"])
    assert figures["hits"] == 0
    assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"]
    assert re.search(r"bench http://\S+ .*--seed \d+$", saved["command"])
    assert saved["machine"]["cores"] >= 1
    done = bench(running, "--model", "double", "--seconds", "2", "--rows", "3", "--compare", str(file))
    assert done.returncode == 0, done.stderr
    assert "surely between" in done.stdout
    assert "Not the same load" not in done.stdout
    # A machine that has much else to do answers too few of them within two seconds.
    assert "What differs from one start of a server to the next" in done.stdout or "No verdict" in done.stdout


def test_an_open_loop_keeps_to_its_rate(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    options = ("--model", "double", "--seconds", "4", "--rate", "50", "--seed", "7", "--json", str(file))
    done = bench(running, *options)
    assert done.returncode == 0, done.stderr
    saved = json.loads(file.read_text())
    assert saved["load"]["rate"] == "50/s"
    assert 130 < saved["figures"]["requests"] < 270  # 200, give or take five standard deviations


def test_few_different_requests_are_answered_from_the_cache(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    done = bench(running, "--model", "double", "--seconds", "1", "--same", "5", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert json.loads(file.read_text())["figures"]["hits"] > 0.5


def test_real_inputs_are_asked_in_turn(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "in.npz"
    write_inputs(file, [{"x": np.full((2, 4), number, np.float32)} for number in range(3)])
    done = bench(running, "--model", "double", "--seconds", "1", "--inputs", str(file))
    assert done.returncode == 0, done.stderr
    assert "inputs 3 of in.npz" in done.stdout
    wrong = bench(running, "--model", "double", "--inputs", str(file), "--rows", "2")
    assert wrong.returncode == 2
    assert "leave out --size and --rows" in wrong.stderr


def test_figures_are_drawn_while_it_runs_and_replaced_in_place(running: Running) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "deployments.cli", "bench", running.server.url, "--model", "double"]
    process = subprocess.Popen(
        [*command, "--seconds", "2", "--warm-up", "0.5"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    said = b""
    try:
        while data := os.read(leader, 65536):
            said += data
    except OSError:  # the terminal is gone with the process
        pass
    assert process.wait(60) == 0
    text = said.decode()
    assert "warming up" in text
    assert "running" in text
    assert "\x1b[2K\x1b[1A" in text or "\x1b[1A\x1b[2K" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "duoble"], "no model 'duoble'"),
        (["--model", "double", "--version", "9"], "no version '9'"),
        (["--model", "../etc"], "a name has 1 to 64"),
        (["--model", "double", "--size", "lenght=4"], "the model has: length"),
        (["--model", "double", "--rate", "0"], "--rate 0 must be more than 0"),
        (["--model", "double", "--compare", "nowhere"], "'nowhere' cannot be read"),
        (["--model", "double", "--inputs", "nowhere"], "no file of inputs 'nowhere'"),
        (["--model", "double", "--rows", "1200000"], "the server answers 413"),
    ],
)
def test_what_is_wrong_is_one_line(running: Running, arguments: list[str], told: str) -> None:
    done = bench(running, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_where_a_run_cannot_be_saved_none_begins(running: Running, tmp_path: Path) -> None:
    done = bench(running, "--model", "double", "--seconds", "2", "--json", str(tmp_path))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    (tmp_path / "file").touch()
    done = bench(running, "--model", "double", "--seconds", "2", "--json", str(tmp_path / "file" / "a.json"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    done = bench(running, "--model", "double", "--seconds", "inf")
    assert done.returncode == 2
    assert "--seconds and --warm-up are seconds, up to 86,400" in done.stderr


def test_rows_of_real_inputs_are_counted_as_they_come(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "inputs.npz"
    write_inputs(file, [{"x": np.full((rows, 4), rows, np.float32)} for rows in (1, 7)])
    run = tmp_path / "run.json"
    done = bench(running, "--model", "double", "--seconds", "1", "--inputs", str(file), "--json", str(run))
    assert done.returncode == 0, done.stderr
    figures = json.loads(run.read_text())["figures"]
    assert figures["rows_per_s"] == pytest.approx(4 * figures["requests_per_s"])


def test_load_on_other_machines_takes_a_word(running: Running) -> None:
    done = headrace("bench", "http://192.0.2.1:8000", "--model", "double")
    assert done.returncode == 2
    assert "192.0.2.1 is not this machine" in done.stderr
    assert "--remote" in done.stderr


def test_no_server_is_one_line() -> None:
    (port,) = free_ports(1)
    done = headrace("bench", f"http://127.0.0.1:{port}", "--model", "double")
    assert done.returncode == 2
    assert "nothing answers at" in done.stderr
    assert "Traceback" not in done.stderr
