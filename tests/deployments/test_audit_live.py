"""The audit of a real server, and recent inputs from it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deployments.load import infer_request
from deployments.ports import free_ports
from optimize.inputs import read_inputs
from tests.conftest import Running
from tests.processes import headrace

RATE = 50.0  # requests a second
EXPORT_S = 10.0  # between two times that Ray renews what stands on its port
LOOK_S = 20.0


@contextmanager
def asked(running: Running, model: str) -> Iterator[list[float]]:
    """Requests at a constant rate while the block runs; when each was sent."""
    sent: list[float] = []
    done = threading.Event()

    def ask() -> None:
        started = time.monotonic()
        while not done.wait(max(0.0, started + len(sent) / RATE - time.monotonic())):
            sent.append(time.monotonic())
            x = np.full((1, 3), len(sent) % 4, np.int64 if model == "lookup" else np.float32)
            assert running.ask_model(model, x).num_failed == 0

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield sent
    finally:
        done.set()
        thread.join()


def audited(*arguments: str, out: Path) -> tuple[dict[str, Any], str]:
    done = headrace("audit", *arguments, "--json", str(out / "a.json"), "--page", str(out / "new" / "a.html"))
    assert done.returncode == 1, done.stderr
    assert "What to do" in (out / "new" / "a.html").read_text()
    return json.loads((out / "a.json").read_text()), done.stdout


def of(told: dict[str, Any], model: str) -> dict[str, Any]:
    (found,) = [entry for entry in told["models"] if entry["model"] == model]
    return found


def test_a_server_is_audited_by_its_address_alone(running: Running, tmp_path: Path) -> None:
    with asked(running, "far"):
        time.sleep(2 * EXPORT_S)
        told, said = audited("--address", running.server.ray_address, "--seconds", str(LOOK_S), out=tmp_path)
    far = of(told, "far")
    assert far["processes"] == 2
    assert 0.45 * RATE < far["per_s"] < 1.6 * RATE  # one export more or less
    assert 0 < far["p50_s"]["low"] <= far["p99_s"]["value"] < 1
    assert 0 < far["busy"] < 1
    assert far["error_share"] == 0
    double = of(told, "double")
    assert (double["version"], double["processes"]) == ("2", 2)  # in each gateway
    assert len(told["memories"]) == 2
    assert told["shared"]["max_bytes"] > 0
    idle = [finding for finding in told["findings"] if finding["kind"] == "idle"]
    assert [(finding["model"], finding["gain"]["value"]) for finding in idle] == [("far", 730.0)]
    assert "# with models.far.replicas: 1" in said
    assert not any("no server" in words for words in told["unknown"])


def test_a_configuration_and_a_metrics_port_are_enough(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(json.dumps(running.server.config.model_dump(exclude_unset=True)))
    port = running.server.metrics_url
    told, said = audited(str(file), "--metrics", port, "--seconds", "1", out=tmp_path)
    assert of(told, "double")["processes"] == 2
    assert told["memories"] == []
    assert "how full the caches are" in said.replace("\n", " ")


def test_a_server_that_is_gone_is_no_audit() -> None:
    (port,) = free_ports(1)
    done = headrace("audit", "--address", f"127.0.0.1:{port}")
    assert done.returncode == 4
    assert "headrace serve CONFIG" in done.stderr


def test_what_was_computed_of_late_is_written_to_a_file(running: Running, tmp_path: Path) -> None:
    given = [np.full((1, 2 + number), number % 4, np.int64) for number in range(20)]
    requests = [infer_request("test", "lookup", {"x": x}) for x in given]
    assert running.ask(requests, 4).num_failed == 0
    out = tmp_path / "lookup.npz"
    done = headrace("inputs", "lookup", "--out", str(out), "--address", running.server.ray_address)
    assert done.returncode == 0, done.stderr
    found = {inputs["x"].shape[1]: inputs["x"] for inputs in read_inputs(out)}
    assert all(np.array_equal(found[x.shape[1]], x) for x in given)


def test_texts_are_kept_too(running: Running, tmp_path: Path) -> None:
    text = np.array([[b"kept", "Zürich".encode()]], object)
    assert running.ask_model("words", text).num_failed == 0
    out = tmp_path / "words.npz"
    done = headrace("inputs", "words", "--out", str(out), "--address", running.server.ray_address)
    assert done.returncode == 0, done.stderr
    assert text.tolist() in [inputs["x"].tolist() for inputs in read_inputs(out)]


def test_unless_it_is_asked_for_nothing_is_kept(running: Running, tmp_path: Path) -> None:
    out = tmp_path / "far.npz"
    done = headrace("inputs", "far", "--out", str(out), "--address", running.server.ray_address)
    assert done.returncode == 2
    assert "set models.far.keep_inputs: 500" in done.stderr
    assert not out.exists()
