"""Other engines for a version, so that `headrace tune` can choose among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from engines.artifact import Artifact, Repository
from engines.load import load
from engines.probe import probe
from headrace.errors import ConfigRejected, EngineUnavailable
from optimize.demand import made_up
from optimize.measure import agreement
from optimize.publish import check_engine, publish_again

ON_CPUS = ("onnxruntime", "openvino")  # that run the same graph
LEAST = 0.99  # cosine between two engines' answers; INT8 is rounded otherwise by each
_COMPARED = 32  # requests


def check_engines(artifact: Artifact, engines: Sequence[str]) -> None:
    """ConfigRejected for one that does not run this graph on a CPU."""
    own = artifact.manifest
    for engine in engines:
        check_engine(engine)
        if engine not in ON_CPUS or own.engine not in ON_CPUS:
            raise ConfigRejected(
                f"'{own.name}/{own.version}' is for {own.engine}, and {engine} was asked for; tune chooses "
                f"among {' and '.join(ON_CPUS)}"
            )


def alternatives(artifact: Artifact, engines: Sequence[str], folder: Path) -> dict[str, Artifact]:
    """The version as each of the engines would run it, in repositories of their own below `folder`.

    ConfigRejected as above, EngineUnavailable for one that cannot be had.
    """
    check_engines(artifact, engines)
    found = {}
    own = artifact.manifest
    for engine in dict.fromkeys(engines):
        if engine == own.engine:
            continue
        if reason := probe(engine):
            raise EngineUnavailable(f"{engine} cannot be tried: {reason}")
        shelf = Repository(artifact.folder.parent.parent)
        found[engine] = publish_again(
            shelf, f"{own.name}/{own.version}", engine, own.version, Repository(folder / engine)
        )
    return found


def agreeing(
    artifact: Artifact, others: Mapping[str, Artifact], sizes: Sequence[Mapping[str, int]]
) -> tuple[dict[str, Artifact], dict[str, float]]:
    """Those whose answers are the version's own, and the least cosine of each."""
    requests = made_up(artifact.manifest.signature, [dict(size) for size in sizes[:_COMPARED]])
    least = {}
    with ExitStack() as stack:
        own = stack.enter_context(closing(load(artifact, threads=1)))
        for engine, other in others.items():
            with closing(load(other, threads=1)) as loaded:
                _, least[engine] = agreement(own, loaded, requests)
    return {engine: other for engine, other in others.items() if least[engine] >= LEAST}, least
