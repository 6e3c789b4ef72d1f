"""headrace doctor tells each finding with its fix, by exit code what will not work, and as JSON."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from deployments.doctor.check import Check, ok
from deployments.doctor.everything import _guarded
from tests.onnx_models import publish_all
from tests.processes import headrace


def test_what_will_not_work_is_the_exit_code(tmp_path: Path) -> None:
    publish_all(tmp_path / "models")
    file = tmp_path / "serve.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file.write_text(f"http: {{port: {port}}}\nmodels:\n  double: {{}}\n  gone: {{}}\n")
        done = headrace("doctor", str(file))
    assert done.returncode == 1, done.stdout
    assert f"port {port}" in done.stdout
    assert "no model 'gone'" in done.stdout
    assert "end that process, or set http.port (or --port)" in done.stdout
    assert "will not work" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr


def test_json_has_every_check_with_its_group(tmp_path: Path) -> None:
    publish_all(tmp_path / "models")
    file = tmp_path / "serve.yaml"
    file.write_text("cache: {url: 'redis://:geheim@127.0.0.1:1'}\nmodels:\n  double: {}\n")
    done = headrace("doctor", str(file), "--json")
    found = json.loads(done.stdout)
    by_name = {entry["name"]: entry for entry in found}
    assert by_name["Redis"]["state"] == "bad"
    assert by_name["Redis"]["group"] == "Cache"
    assert by_name["double/2"]["group"] == "Processor"
    assert by_name["versions"]["group"] == "Repository"
    assert done.returncode == 1
    assert "geheim" not in done.stdout + done.stderr


def test_a_wrong_configuration_is_one_line(tmp_path: Path) -> None:
    done = headrace("doctor", str(tmp_path / "nowhere.yaml"))
    assert done.returncode == 2
    assert "no configuration file" in done.stderr


def test_a_look_that_fails_does_not_end_the_others() -> None:
    def fails() -> list[Check]:
        raise OSError("gone")

    def breaks_off():  # type: ignore[no-untyped-def]
        yield ok("first", "well")
        raise OSError("gone")

    assert [check.state for check in _guarded("Room", fails)] == ["warn"]  # type: ignore[arg-type]
    assert [check.state for check in _guarded("Room", breaks_off)] == ["ok", "warn"]
