"""Ray: which clusters run on this machine, and whether they are of the release that is installed here."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator

from deployments.doctor.check import Check, ok, unless, warn

_PATIENCE_S = 3


def checks() -> Iterator[Check]:
    import ray
    from ray._private.services import find_gcs_addresses

    addresses = sorted(find_gcs_addresses())
    if not addresses:
        yield ok("Ray clusters", "none here")
    for address in addresses:
        yield cluster(address, ray.__version__)


def cluster(address: str, installed: str) -> Check:
    title = f"Ray at {address}"
    told = _release(address)
    if told is None:
        return warn(
            title, "runs, and does not tell its release", "if it wants a token, set RAY_AUTH_MODE=token"
        )
    advice = (
        f"{installed} is installed here, and cannot join: install ray=={told}, or start that cluster anew"
    )
    return unless(told == installed, "warn", title, f"runs {told}", advice)


def _release(address: str) -> str | None:
    """Of a cluster; None when it does not say."""
    raylet = importlib.import_module("ray._raylet")  # what it has, its annotations do not tell
    try:
        client = raylet.GcsClient(address=address)
        document = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=_PATIENCE_S))
        return str(document["ray_version"])
    except Exception:  # Ray's own kinds differ by release; whatever it is, the cluster does not say
        return None
