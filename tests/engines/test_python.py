from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.artifact import Artifact, Repository
from engines.base import RequestEngine
from engines.load import load
from headrace.errors import ArtifactRejected, EngineFailed, TensorRejected
from headrace.tensors import Signature, TensorSpec
from optimize.publish import publish
from tests import letters

TEXT = TensorSpec("text", "BYTES", ("batch",))
Y = TensorSpec("y", "FP32", ("batch", "length"))


def artifact(root: Path, code: str, *outputs: TensorSpec) -> Artifact:
    return Repository(root).publish(
        "step",
        "1",
        {"step.py": code.encode()},
        graph="step.py",
        signature=Signature((TEXT,), outputs or (Y,)),
        engine="python",
    )


def of(*texts: bytes) -> dict[str, np.ndarray]:
    return {"text": np.array(texts, object)}


@pytest.fixture
def engine(tmp_path: Path) -> RequestEngine:
    made = load(publish(Path(letters.__file__), Repository(tmp_path), "letters"), 1)
    assert isinstance(made, RequestEngine)
    return made


def test_each_request_gets_an_answer_of_its_own_size(engine: RequestEngine) -> None:
    first, second = engine.run_each([of(b"ab"), of(b"c", b"def")])
    assert first["x"].tolist() == [[98, 99]]
    assert second["x"].tolist() == [[100, 0, 0], [101, 102, 103]]


def test_a_single_batch_can_be_run_as_by_any_engine(tmp_path: Path) -> None:
    made = load(publish(Path(letters.__file__), Repository(tmp_path), "letters"), 1)
    made.warm_up()
    assert made.run(of(b"ab"), ("x",))["x"].shape == (1, 2)
    made.close()


def test_a_value_error_is_the_callers_and_tells_what_was_wrong(engine: RequestEngine) -> None:
    with pytest.raises(TensorRejected, match="'bad' is not a good word"):
        engine.run_each([of(b"bad")])
    with pytest.raises(RuntimeError):
        engine.run_each([of(b"broken")])


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("{}", "output 'y' is missing"),
        (
            "{'y': np.zeros((1, 2))}",
            r"output 'y' is FP64 with 2 dimensions; by the signature it is FP32 with 2",
        ),
        ("{'y': np.zeros(1, np.float32)}", "FP32 with 1 dimensions"),
        ("{'y': np.zeros((3, 2), np.float32)}", r"has shape \[3, 2\], where 'batch' is to be 1"),
    ],
)
def test_an_answer_that_is_not_as_the_signature_says_is_told_to_its_author(
    tmp_path: Path, answer: str, problem: str
) -> None:
    code = f"import numpy as np\ndef load(folder):\n    return lambda requests: [{answer}]\n"
    with pytest.raises(EngineFailed, match=problem):
        load(artifact(tmp_path, code), 1).run(of(b"a"))


def test_as_many_answers_as_requests(tmp_path: Path) -> None:
    engine = load(artifact(tmp_path, "def load(folder):\n    return lambda requests: []\n"), 1)
    with pytest.raises(EngineFailed, match="0 answers were given to 1 requests"):
        engine.run(of(b"a"))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def load(folder:\n", r"step.py line 1: "),
        ("x = 1\nraise OSError('gone')\n", "step.py line 2: OSError: gone"),
        ("def load(folder):\n    return 1 / 0\n", "step.py line 2: ZeroDivisionError"),
        ("load = 3\n", r"step.py has no function load\(\)"),
    ],
)
def test_code_that_cannot_be_loaded_is_refused_with_its_line(tmp_path: Path, code: str, problem: str) -> None:
    with pytest.raises(ArtifactRejected, match=problem):
        load(artifact(tmp_path, code), 1)
