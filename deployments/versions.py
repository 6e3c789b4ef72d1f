"""Which versions of a model are served, and what their Serve applications are called."""

from __future__ import annotations

import logging

from engines.artifact import Repository
from headrace.config import ModelConfig
from headrace.errors import NotFound
from rollout.store import Store, stable_of

_log = logging.getLogger(__name__)

GATEWAY_APP = "headrace"
MONITOR_APP = "headrace-monitor"
APP_PREFIX = "headrace:"


def app_name(model: str, version: str) -> str:
    """The Serve application that holds the replicas of one model version."""
    return f"{APP_PREFIX}{model}:{version}"  # no name holds a colon, so no two versions share one


def chosen_versions(repository: Repository, model: str, config: ModelConfig) -> list[str]:
    """The versions to serve, the answering one last; NotFound when the repository lacks one.

    A model that had a rollout is answered by the version which that left as the stable one, whatever the
    configuration says: else a restart would undo it. What is listed before the last is served by its name.
    """
    there = repository.versions(model)
    stable, problem = stable_of(Store(repository.root), model, (config.versions or there)[-1])
    if problem:
        _log.error(f"{problem}; version {stable!r} answers")
    chosen = [*(version for version in config.versions[:-1] if version != stable), stable]
    for version in dict.fromkeys((*config.versions, *chosen)):
        if version not in there:
            raise NotFound(f"model {model!r} has no version {version!r}; there are: {', '.join(there)}")
    return chosen
