"""The flat packages are ours, not something of the same name from elsewhere."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [path.parent.name for path in ROOT.glob("*/__init__.py")]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_lies_below_the_root(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().is_relative_to(ROOT)


def test_the_rooms_of_the_house_are_there() -> None:
    assert {"deployments", "engines", "cache", "autoscaling", "headrace", "optimize", "protocol"} <= set(
        PACKAGES
    )
