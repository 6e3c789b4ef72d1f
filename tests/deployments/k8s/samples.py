"""Configurations and what is rendered from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from deployments.k8s.files import Rendered, render
from deployments.k8s.options import Options
from headrace.config import Config, load_config, parse_config
from tests.deployments.k8s.kustomize import Document, built

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "k8s" / "example.yaml"
# As the committed folder was made: see the first line of the example.
AS_COMMITTED = Options(recipes={"minilm": "/models/recipes/minilm.py"}, goals=("max_drop=0.01",))


@cache
def example() -> Rendered:
    return render(load_config(EXAMPLE), AS_COMMITTED)


def config(models: dict[str, Any], **others: Any) -> Config:
    """Models without a version get version 1, since there is no repository."""
    pinned = {name: {"versions": ["1"], **entry} for name, entry in models.items()}
    return parse_config({"repository": "/nowhere", "models": pinned, **others})


@cache
def example_in(folder: str) -> list[Document]:
    """The objects that one of its folders makes; not to be changed."""
    return built(example().files, folder)
