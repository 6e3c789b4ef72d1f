"""Shapes of requests: read, known, drawn and made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.manifest import BatchLatency, Manifest, make_manifest
from headrace.errors import ConfigRejected
from headrace.tensors import Signature, TensorSpec
from optimize.demand import draw, known_shapes, made_up, read_shapes

IDS = TensorSpec("ids", "INT64", ("batch", "length"), low=0, high=99)
MASK = TensorSpec("mask", "INT64", ("batch", "length"), low=0, high=1)
TEXT = Signature((IDS, MASK), (TensorSpec("y", "FP32", ("batch", 4)),), {"length": 64})


def manifest(signature: Signature = TEXT, **parts: object) -> Manifest:
    told: dict[str, object] = {
        "name": "text",
        "version": "1",
        "engine": "onnxruntime",
        "engine_version": "1",
        "cpu_flags": (),
        "graph": "model.onnx",
        "signature": signature,
        "precision": "fp32",
        "files": {"model.onnx": {"sha256": "0" * 64, "size": 1}},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return make_manifest(**{**told, **parts})


def written(folder: Path, text: str) -> Path:
    path = folder / "shapes.jsonl"
    path.write_text(text)
    return path


def test_recorded_shapes_are_read_with_their_counts(tmp_path: Path) -> None:
    path = written(tmp_path, '{"sizes": {"length": 12}, "count": 3}\n\n{"sizes": {"length": 5}}\n')
    assert read_shapes(path, TEXT) == [({"length": 12}, 3), ({"length": 5}, 1)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no shapes; a line is"),
        ("\n  \n", "holds no shapes"),
        ("not JSON", "line 1"),
        ('{"sizes": {"length": 5}}\n{"size": {"length": 5}}', "line 2: .*wanted is .*length"),
        ('{"sizes": {"length": "5"}}', "line 1: sizes.length"),
        ('{"sizes": {"length": -5}}', "line 1: sizes.length"),
        ('{"sizes": {"length": 5}, "count": 0}', "line 1: count"),
        ('{"sizes": {"width": 5}}', r"names the dimensions \['width'\]; wanted is .*length"),
        ('{"sizes": {}}', r"names the dimensions \[\]"),
        ('{"sizes": {"length": 65}}', "length is 65; the model takes 64 at most"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wanted(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigRejected, match=told):
        read_shapes(written(tmp_path, text), TEXT)


def test_a_missing_file_says_how_to_record_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected, match="headrace shapes MODEL"):
        read_shapes(tmp_path / "none", TEXT)
    with pytest.raises(ConfigRejected, match="cannot be read"):
        read_shapes(tmp_path, TEXT)


def test_without_a_file_the_measured_shapes_count_then_those_of_the_warm_up() -> None:
    warm_up = ({"batch": 1, "length": 3}, {"batch": 8, "length": 9}, {"batch": 1, "length": 9})
    assert known_shapes(manifest(warm_up=warm_up)) == [({"length": 3}, 1), ({"length": 9}, 1)]
    row = {"threads": 1, "median_ms": 1.0, "low_ms": 1.0, "high_ms": 1.0}
    latencies = tuple(BatchLatency(batch=batch, sizes={"length": 7}, **row) for batch in (1, 2))
    assert known_shapes(manifest(warm_up=warm_up, latencies=latencies)) == [({"length": 7}, 1)]


def test_shapes_that_nobody_knows_are_asked_for() -> None:
    with pytest.raises(ConfigRejected, match="--shapes"):
        known_shapes(manifest())
    image = TensorSpec("image", "FP32", ("batch", 3, 8, 8))
    assert known_shapes(manifest(Signature((image,), (image,)))) == [({}, 1)]


def test_each_shape_is_drawn_as_often_as_it_was_seen() -> None:
    drawn = draw([({"length": 3}, 30), ({"length": 9}, 10)], 4000)
    assert 0.7 < sum(sizes["length"] == 3 for sizes in drawn) / 4000 < 0.8
    assert drawn == draw([({"length": 3}, 30), ({"length": 9}, 10)], 4000)


def test_made_up_requests_fit_the_signature_and_mask_nothing() -> None:
    requests = made_up(TEXT, [{"length": 5}, {"length": 9}, {"length": 5}])
    assert [TEXT.check(inputs) for inputs in requests] == [
        {"batch": 1, "length": length} for length in (5, 9, 5)
    ]
    assert requests[0] is requests[2]
    assert np.all(requests[1]["mask"] == 1)
    assert len(np.unique(requests[1]["ids"])) > 3
