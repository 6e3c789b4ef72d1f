"""`headrace simulate` from a configuration, by hand, and with what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from autoscaling.contenders import Fixed
from autoscaling.policy import Goals
from autoscaling.simulate import simulate
from autoscaling.starts import Starts
from autoscaling.trace import Trace
from autoscaling.traffic import Served
from deployments.cli import cli
from deployments.simulate_page import as_html, points
from deployments.simulated import configured, parse_batches, parse_seconds
from engines.artifact import Repository
from engines.manifest import BatchLatency
from headrace.errors import CallerError, ConfigRejected
from tests.onnx_models import publish_all

BATCHES = "1:56,8:100"
GOALS = Goals(1, 10, 0.5, 0.75, 60, 300)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    publish_all(tmp_path / "models")
    path = tmp_path / "serve.yaml"
    models = {
        "double": {
            "placement": "replicas",
            "autoscaling": {"max_replicas": 7, "objective_ms": 250.0},
            "timeout_ms": 900.0,
        },
        "slow": {},
    }
    path.write_text(yaml.safe_dump({"repository": "models", "gateways": 3, "models": models}))
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, ["simulate", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def trace(folder: Path, count: int = 200) -> Path:
    path = folder / "trace.csv"
    path.write_text("time\n" + "\n".join(f"{number / 10}" for number in range(count)))
    return path


def test_it_is_told_in_a_table_on_a_page_and_as_json(tmp_path: Path) -> None:
    page, data = tmp_path / "out" / "page.html", tmp_path / "data.json"
    arguments = ("--batch-ms", BATCHES, "--policy", "headrace", "--policy", "fixed:2", "--page", page)
    said = run("--trace", trace(tmp_path), *arguments, "--json", data)
    assert "200 requests in 20 s" in said
    headrace, fixed = json.loads(data.read_text())
    assert (headrace["policy"], fixed["policy"]) == ("headrace", "fixed:2")
    assert fixed["replica_hours"] == pytest.approx(2 * 20.2 / 3600, rel=0.02)
    assert sum(second["arrivals"] for second in headrace["seconds"]) == 200
    html = page.read_text()
    assert len(re.findall("<polyline", html)) == 6
    assert "<script" not in html
    assert 'aria-label="Replicas: headrace: at most 1 replicas; fixed:2: at most 2 replicas"' in html


def test_faster_and_denser(tmp_path: Path) -> None:
    arguments = ("--batch-ms", BATCHES, "--policy", "fixed:1", "--page", tmp_path / "page.html")
    assert "400 requests in 10 s" in run("--trace", trace(tmp_path), *arguments, "--speed", 2, "--rate", 2)


def test_a_configured_model_is_simulated_as_it_would_be_served(config: Path) -> None:
    subject = configured(config, None, parse_batches(BATCHES), {}, {})
    served, goals = subject.served, subject.goals
    assert subject.name == "double/2"
    assert served.batch_s == ((1, 0.056), (8, 0.1))
    assert (served.gateways, served.max_batch, served.timeout_s) == (3, 8, 0.9)
    assert (goals.max_replicas, goals.objective_s) == (7, 0.25)


def test_what_is_given_by_hand_comes_first(config: Path) -> None:
    subject = configured(
        config, "double", parse_batches(BATCHES), {"max_replicas": 900, "objective_ms": None}, {"gateways": 5}
    )
    assert (subject.goals.max_replicas, subject.goals.objective_s) == (900, 0.25)
    assert subject.served.gateways == 5
    assert subject.served.report_s == 1.8  # so many report less often


def test_batches_are_those_of_the_manifest(config: Path) -> None:
    repository = Repository(config.parent / "models")
    artifact = repository.open("double", "2")
    latencies = tuple(
        BatchLatency(batch=rows, threads=1, median_ms=ms, low_ms=ms, high_ms=ms)
        for rows, ms in ((1, 10.0), (4, 16.0))
    )
    path = artifact.graph_path.parent / "manifest.json"
    path.write_text(artifact.manifest.model_copy(update={"latencies": latencies}).model_dump_json())
    assert configured(config, "double", (), {}, {}).served.batch_s == ((1, 0.01), (4, 0.016))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "which model\\? give --config and --model, or its batches: --batch-ms"),
        (("--batch-ms", "1:56,8"), "'8' is not ROWS:MS"),
        (("--batch-ms", "0:56"), "at least 1 row"),
        (("--batch-ms", BATCHES, "--start-s", "3,x"), "--start-s: 'x' is no number"),
        (("--batch-ms", BATCHES, "--policy", "serv"), "unknown policy 'serv'.*did you mean 'serve'"),
        (("--batch-ms", BATCHES, "--max-replicas", 0), "--max-replicas: .* got 0"),
        (("--batch-ms", BATCHES, "--min-replicas", 20), "min_replicas is 20 and max_replicas is 10"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, arguments: tuple[object, ...], problem: str) -> None:
    with pytest.raises((CallerError, ConfigRejected), match=problem):
        run("--trace", trace(tmp_path), "--page", tmp_path / "page.html", *arguments)


def test_a_trace_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"the trace 'none\.csv' cannot be read"):
        run("--trace", tmp_path / "none.csv", "--batch-ms", BATCHES)


def test_a_model_that_nobody_measured_is_told(config: Path) -> None:
    with pytest.raises(CallerError, match="nobody has measured batches of double/2 with 1 thread: give"):
        configured(config, None, (), {}, {})
    with pytest.raises(CallerError, match=r"no model 'doubel'.*double, slow; did you mean 'double'"):
        configured(config, "doubel", (), {}, {})


def test_numbers_are_read() -> None:
    assert parse_seconds("3,4.5") == (3.0, 4.5)
    assert parse_batches("8:100,1:56") == ((1, 0.056), (8, 0.1))


def test_a_line_stops_where_nothing_is_known() -> None:
    times = np.concatenate([np.linspace(0, 9, 50), np.linspace(60, 69, 50)])
    outcome = simulate(Trace(times), Served(((1, 0.1),)), Starts(), GOALS, Fixed(1))
    replicas, queue, p99 = as_html([outcome], "").split("<h2>")[2:]
    assert [part.count("<polyline") for part in (replicas, queue, p99)] == [1, 1, 2]


def test_long_runs_are_drawn_with_few_points_that_keep_the_peaks() -> None:
    times = np.concatenate([np.arange(0, 4000, 2.0), np.full(50, 2001.0)])
    outcome = simulate(Trace(np.sort(times)), Served(((1, 0.1),)), Starts(), GOALS, Fixed(1))
    curve = points(outcome.seconds, 1)
    assert len(curve) <= 400
    assert max(value for _, value in curve) >= 30
    assert ">minutes<" in as_html([outcome], "")
