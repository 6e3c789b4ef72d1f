"""Variables that hurt are named, and no secret is told."""

from __future__ import annotations

from pathlib import Path

from deployments.doctor import settings


def test_flags_of_serve_hurt_drivers_and_are_named() -> None:
    assert settings.serve_flags({}).state == "ok"
    found = settings.serve_flags({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_LOG": "x"})
    assert (found.state, found.found) == ("warn", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
    assert "unset RAY_SERVE_LOG RAY_SERVE_THROUGHPUT_OPTIMIZED" in found.advice
    found = settings.serve_flags({f"RAY_SERVE_{letter}": "1" for letter in "ABC"})
    assert found.found == "RAY_SERVE_A and 2 more"


def test_a_token_that_an_earlier_use_has_left_is_told(tmp_path: Path) -> None:
    left = tmp_path / ".ray" / "auth_token"
    assert settings.admission({}, left).state == "ok"
    left.parent.mkdir()
    left.write_text("secret")
    found = settings.admission({}, left)
    assert found.state == "warn"
    assert "RAY_AUTH_MODE=disabled" in found.advice
    assert settings.admission({"RAY_AUTH_MODE": "disabled"}, left).state == "ok"
    assert settings.admission({"RAY_AUTH_MODE": "token"}, left).state == "ok"


def test_a_token_that_is_wanted_must_be_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    assert settings.admission({"RAY_AUTH_MODE": "token"}, nowhere).state == "bad"
    assert settings.admission({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t"}, nowhere).state == "ok"
    elsewhere = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(nowhere)}
    assert settings.admission(elsewhere, nowhere).state == "bad"


def test_the_admin_token_is_never_told() -> None:
    for token in ("", "geheim", "geheim" * 6):
        check = settings.admin_token({"HEADRACE_ADMIN_TOKEN": token})
        assert "geheim" not in f"{check.found}{check.advice}"
        assert check.state == ("warn" if token == "geheim" else "ok")
