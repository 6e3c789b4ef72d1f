"""A share of a GPU that is too small is refused with the share that is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments import gpu_room
from deployments.gpu_room import check_memory, refuse_memory
from deployments.setup import setup_of
from engines.driver import Device, Driver
from engines.gpu_memory import Need
from headrace.config import parse_config
from headrace.errors import ConfigRejected, EngineUnavailable
from optimize.publish import publish_again
from tests.onnx_models import publish_all

GIB = 1 << 30
SMALL, LARGE = (Device(f"a GPU of {gib} GiB", "8.9", gib * GIB) for gib in (8, 16))
NEED = Need(weights=2 * GIB, batches=GIB, cuda=GIB)


def test_what_fits_passes() -> None:
    refuse_memory("text", 0.25, NEED, [LARGE])
    refuse_memory("text", 2, NEED, [SMALL, LARGE])
    refuse_memory("text", 0.25, NEED, [SMALL, LARGE])


def test_too_small_a_share_is_refused_with_one_that_is_enough() -> None:
    with pytest.raises(
        ConfigRejected,
        match=r"models.text.num_gpus is 0.2, 3.20 GiB of a GPU's 16.00 GiB .*needs at least 4.00 GiB "
        r"\(weights 2.00 GiB, batches 1.00 GiB, CUDA 1.00 GiB\); allowed: 0.25 or more",
    ):
        refuse_memory("text", 0.2, NEED, [SMALL, LARGE])


def test_what_no_share_holds_is_told() -> None:
    with pytest.raises(ConfigRejected, match="more than the GPU has: take a smaller max_batch, or a larger"):
        refuse_memory("text", 1, Need(weights=20 * GIB, batches=0), [LARGE])


def test_the_models_of_a_configuration_are_checked_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_again(publish_all(tmp_path), "double/1", "tensorrt", "9")
    entry = {"placement": "replicas", "num_gpus": 0.01, "versions": ["9"]}
    config = parse_config({"repository": str(tmp_path), "models": {"double": entry}})
    manifest = publish_again(publish_all(tmp_path / "again"), "double/1", "tensorrt", "9").manifest
    setups = {"double": {"9": setup_of(config.models["double"], manifest, 1, 2)}}

    def nowhere() -> Driver:
        raise EngineUnavailable("no GPU")

    monkeypatch.setattr(gpu_room, "find_driver", nowhere)
    check_memory(config, setups)
    monkeypatch.setattr(gpu_room, "find_driver", lambda: Driver("13.0", (LARGE,)))
    with pytest.raises(ConfigRejected, match=r"of a GPU.s 16.00 GiB"):
        check_memory(config, setups)
