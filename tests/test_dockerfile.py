"""The Dockerfile, as far as it can be judged without building it."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from deployments.k8s.pods import USER
from deployments.k8s.ray_service import IN_IMAGE

ROOT = Path(__file__).resolve().parent.parent
IGNORED = (ROOT / ".dockerignore").read_text().split()
LAST_STEPS = (ROOT / "deployments" / "image.sh").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest of it), lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    found = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(name, rest) for name, rest in found]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions():
        if name == "FROM":
            found[rest.split()[-1]] = []
        elif found:
            list(found.values())[-1].append((name, rest))
    return found


def copied() -> list[str]:
    """What is taken from this folder."""
    return [
        word
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    ]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path through; the last pattern that fits decides."""
    sent = True
    for pattern in IGNORED:
        if fnmatch.fnmatch(path, pattern.removeprefix("!")) or path.startswith(
            pattern.removeprefix("!") + "/"
        ):
            sent = pattern.startswith("!")
    return sent


@pytest.mark.parametrize("path", copied())
def test_everything_that_is_copied_is_there_and_not_ignored(path: str) -> None:
    assert (ROOT / path).exists()
    assert is_sent(path)


def test_secrets_models_and_what_was_built_here_stay_out() -> None:
    for path in (".git", ".venv", "models", "out", "k8s", "tests", ".env"):
        assert not is_sent(path)


def test_every_room_of_the_house_is_in_the_image() -> None:
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) <= set(copied())


def test_the_targets_run_as_the_user_that_pods_ask_for() -> None:
    for target in ("cpu", "gpu"):
        (user,) = [rest for name, rest in stages()[target] if name == "USER"]
        assert user == f"{USER}:{USER}"


def test_packages_are_installed_by_their_hashes_only() -> None:
    for name, rest in instructions():
        if name == "RUN":
            for command in rest.split("&&"):
                if "pip install" in command:
                    assert "--require-hashes" in command
                    assert "--no-deps" in command
    assert LAST_STEPS.count("pip install") == 1  # ourselves
    assert "--no-deps --no-build-isolation --editable /app" in LAST_STEPS.replace("--no-cache-dir ", "")


def test_bases_are_pinned_by_version() -> None:
    bases = {rest.split()[0] for name, rest in instructions() if name == "FROM"} - set(stages())
    assert len(bases) == 3
    for base in bases:
        assert re.search(r":\d+\.\d+\.\d+-", base)


def test_both_targets_have_the_same_python() -> None:
    """Ray refuses a node whose Python differs from the head's, even by its last number."""
    pythons = {target: set() for target in ("cpu", "cpu-build", "gpu", "gpu-build")}
    for target, found in pythons.items():
        (base,) = [
            rest.split()[0] for name, rest in instructions() if name == "FROM" and rest.endswith(f" {target}")
        ]
        copied_from = {
            rest.split()[0].removeprefix("--from=")
            for name, rest in stages()[target]
            if "/usr/local /usr/local" in rest
        }
        found |= copied_from or {base}
        assert not [rest for name, rest in stages()[target] if re.search(r"install.* python3", rest)]
    assert set(map(frozenset, pythons.values())) == {frozenset({"python"})}


def test_the_image_has_everything_where_the_pods_look_for_it() -> None:
    folder = IN_IMAGE.python.rpartition("/")[0]
    assert IN_IMAGE.haproxy == f"{folder}/haproxy"
    assert f"{IN_IMAGE.haproxy}\n" in LAST_STEPS
    for target in ("cpu", "gpu"):
        (environment,) = [rest for name, rest in stages()[target] if name == "ENV"]
        assert f"PATH={folder}:" in environment
        assert f"PYTHONPATH={IN_IMAGE.root} " in environment


def test_the_lock_for_gpus_has_what_the_extra_names() -> None:
    wanted = (ROOT / "requirements" / "gpu.in").read_text().splitlines()
    assert set(PROJECT["project"]["optional-dependencies"]["gpu"]) <= set(wanted)
    lock = (ROOT / "requirements" / "gpu.txt").read_text()
    for line in wanted:
        if line and not line.startswith("#"):
            name = re.split(r"[<>=]", line)[0]
            assert re.search(rf"^{re.escape(name)}==\S+ \\\n    --hash=", lock, re.MULTILINE)
