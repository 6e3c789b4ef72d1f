"""Newer releases of engines' libraries, installed where nothing else sees them, and measured."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from deployments.setup import setup_of
from engines.artifact import Repository
from headrace.errors import EngineUnavailable, HeadraceError
from optimize.beside import compare
from rollout.audit_versions import is_older
from rollout.facts import Facts, ModelFacts, Upgrade

_PIP = ("--no-deps", "--no-input", "--disable-pip-version-check", "--retries", "1", "--timeout", "15")
_INSTALL_S = 600.0
_WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def with_upgrades(facts: Facts, seconds: float, say: Callable[[str], None]) -> Facts:
    """The same facts and what the newest release of each engine's library makes of each version, `seconds`
    of measuring each. Where it cannot be had or run, that is told among what is unknown."""
    unknown: list[str] = []
    found: list[Upgrade] = []
    for library, installed in facts.here.libraries.items():
        models = [model for model in facts.models if model.manifest.engine == library]
        if not models:
            continue
        say(f"installing the newest {library} in a throw-away environment")
        try:
            with newest(library) as (newer, python):
                if not is_older(installed, newer):
                    say(f"no newer {library} than {installed}, which is installed; pip gets {newer}")
                    continue
                for model in models:
                    say(f"measuring {model.name}/{model.version} with {library} {installed} and {newer}")
                    found += _measured(facts, model, library, newer, python, seconds, unknown)
        except EngineUnavailable as err:
            unknown.append(f"newer releases of {library}: {err}")
    return replace(facts, upgrades=tuple(found), unknown=(*facts.unknown, *unknown))


def _measured(
    facts: Facts,
    model: ModelFacts,
    library: str,
    newer: str,
    python: Path,
    seconds: float,
    unknown: list[str],
) -> Iterator[Upgrade]:
    try:
        artifact = Repository(Path(facts.repository)).open(model.name, model.version)
        setup = setup_of(model.config, artifact.manifest, model.processes or 1, facts.here.cores)
        batching = setup.batching.model_dump(mode="json")
        ratio = compare(artifact, python, setup.threads, batching, seconds)
    except HeadraceError as err:
        unknown.append(f"{model.name}/{model.version} with {library} {newer}: {err}")
        return
    installed = facts.here.libraries[library]
    yield Upgrade(model.name, library, installed, newer, ratio.value, ratio.low, ratio.high)


@contextmanager
def newest(library: str) -> Iterator[tuple[str, Path]]:
    """The newest release that this machine's pip gets, and the interpreter of an environment that has it and
    all else as here; gone with the block. EngineUnavailable where it gets none, such as offline."""
    with tempfile.TemporaryDirectory(prefix="headrace-upgrade-") as name:
        python = Path(name) / "bin" / "python"
        _run([sys.executable, "-m", "venv", name], "no environment could be made")
        _run([str(python), "-m", "pip", "install", *_PIP, library], "pip could not install it")
        version = f"from importlib.metadata import version; print(version({library!r}))"
        found = _run([str(python), "-c", version], "it is not there after its installation")
        folder = Path(_run([str(python), "-c", _WHERE], "the environment has no folder for libraries"))
        # Found after what was installed there, so that nothing but the release is another.
        (folder / "headrace.pth").write_text("".join(f"{path}\n" for path in _libraries()), encoding="utf-8")
        yield found, python


def _libraries() -> list[str]:
    """Where this environment's libraries are."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


def _run(command: list[str], problem: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  no shell, and nothing of a caller's but a library's name
            command, capture_output=True, text=True, timeout=_INSTALL_S, check=True
        )
    except subprocess.TimeoutExpired as err:
        raise EngineUnavailable(f"{problem}: it took longer than {_INSTALL_S:g} s") from err
    except (OSError, subprocess.CalledProcessError) as err:
        said = (getattr(err, "stderr", None) or str(err)).strip().splitlines()
        raise EngineUnavailable(f"{problem}: {said[-1][:300] if said else 'it said nothing'}") from err
    return done.stdout.strip()
