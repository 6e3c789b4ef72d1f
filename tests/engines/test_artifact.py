import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import onnxruntime
import pytest

from engines.load import load
from engines.manifest import Machine, SessionOptions, Tuned
from headrace.errors import ArtifactRejected, NotFound


def test_a_published_version_opens_as_it_was_published(repository, publish, signature):
    published = publish(figures={"accuracy": 0.5}, parent="0", precision="int8-dynamic")
    opened = repository.open("text", "1")
    assert opened == published
    assert opened.manifest.signature == signature
    assert opened.manifest.figures == {"accuracy": 0.5}
    assert opened.graph_path == repository.root / "text" / "1" / "model.onnx"
    assert opened.manifest.engine_version == onnxruntime.__version__


def test_a_flipped_byte_is_refused_before_anything_parses_it(repository, publish, monkeypatch):
    path = publish().graph_path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(ArtifactRejected, match=r"'model\.onnx' is not the one published") as refused:
        load(repository.open("text", "1"), threads=1)
    assert str(repository.root) not in str(refused.value)


def test_a_file_changed_after_the_check_is_refused_too(repository, publish, graph_bytes):
    publish()
    opened = repository.open("text", "1")
    opened.graph_path.write_bytes(b"\0" * len(graph_bytes))
    with pytest.raises(ArtifactRejected, match=r"model\.onnx"):
        load(opened, threads=1)


def test_a_missing_file_is_refused(repository, publish):
    (publish().folder / "report.json").unlink()
    with pytest.raises(ArtifactRejected, match=r"'report\.json' is missing"):
        repository.open("text", "1")


@pytest.mark.parametrize("name", ["more.bin", ".hidden"])
def test_an_extra_file_is_refused(repository, publish, name):
    (publish().folder / name).write_bytes(b"")
    with pytest.raises(ArtifactRejected, match=name):
        repository.open("text", "1")


def test_a_link_is_refused_even_to_the_same_bytes(repository, publish, graph_bytes, tmp_path):
    path = publish().graph_path
    path.unlink()
    (tmp_path / "elsewhere.onnx").write_bytes(graph_bytes)
    path.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ArtifactRejected, match=r"model\.onnx"):
        repository.open("text", "1")


def test_a_pipe_is_refused_and_not_waited_for(repository, publish):
    path = publish().graph_path
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactRejected, match="not an ordinary file"):
        repository.open("text", "1")


def test_a_linked_version_folder_does_not_exist(repository, publish):
    (repository.root / "text" / "2").symlink_to(publish().folder)
    assert repository.versions("text") == ["1"]


def test_a_version_under_another_name_is_refused(repository, publish):
    folder = publish().folder
    folder.rename(folder.with_name("2"))
    with pytest.raises(ArtifactRejected, match="'text/1'"):
        repository.open("text", "2")


@pytest.mark.parametrize(
    "file",
    ["../up.onnx", "/abs.onnx", "a/b.onnx", "a\\b.onnx", "..", ".dot", "", "manifest.json", "baseline.json"],
)
def test_only_plain_file_names_are_published(publish, graph_bytes, file):
    with pytest.raises(ArtifactRejected, match="plain file name"):
        publish(files={file: graph_bytes}, graph=file)


@pytest.mark.parametrize("version", ["..", "a/b", "", ".1"])
def test_only_plain_versions_are_published(publish, version):
    with pytest.raises(ArtifactRejected):
        publish(version)


def test_an_existing_version_is_never_replaced(repository, publish):
    digest = publish().digest
    with pytest.raises(ArtifactRejected, match="exists"):
        publish(files={"model.onnx": b"other"})
    assert repository.open("text", "1").digest == digest


def test_of_two_publishers_one_wins(repository, publish):
    start = Barrier(8)

    def attempt(_: int) -> bool:
        start.wait()
        try:
            publish()
        except ArtifactRejected as err:
            assert "exists" in str(err)  # noqa: PT017  which of them loses is not known
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert os.listdir(repository.root / "text") == ["1"]  # noqa: PTH208  hidden folders count
    repository.open("text", "1")


def test_a_crash_while_publishing_leaves_nothing_to_see(repository, publish):
    publish("1")
    program = """
import os, sys
from pathlib import Path
from engines.artifact import Repository
from headrace.tensors import Signature
Path.rename = lambda *_: os._exit(9)
Repository(Path(sys.argv[1])).publish("text", "2", {"g": b""}, graph="g", signature=Signature((), ()))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    crashed = subprocess.run([sys.executable, "-c", program, repository.root], env=environment, check=False)
    assert crashed.returncode == 9
    assert len(list((repository.root / "text").iterdir())) == 2  # the left-over is there, hidden
    assert repository.versions("text") == ["1"]
    publish("2")
    assert repository.versions("text") == ["1", "2"]


def test_a_failed_publish_cleans_up(repository, publish):
    with pytest.raises(FileNotFoundError):
        publish(files={"model.onnx": Path("gone")})
    assert list((repository.root / "text").iterdir()) == []
    assert repository.names() == []


def test_versions_are_sorted_by_number(repository, publish):
    for version in ("10", "9", "v1.10", "v1.9", "1"):
        publish(version)
    assert repository.versions("text") == ["1", "9", "10", "v1.9", "v1.10"]
    assert repository.names() == ["text"]


def test_what_is_unknown_is_answered_with_what_there_is(repository, publish):
    publish()
    with pytest.raises(NotFound, match="there are: text"):
        repository.versions("other")
    with pytest.raises(NotFound, match="it has: 1"):
        repository.open("text", "7")
    for name in ("../text", "", ".", "x" * 1000):
        with pytest.raises(NotFound):
            repository.open(name, "1")
    with pytest.raises(NotFound):
        repository.open("text", "../text/1")


def test_the_digest_names_what_changes_answers(publish, graph_bytes, signature):
    first = publish("1", figures={"accuracy": 1.0})
    same = publish("2", files={"model.onnx": graph_bytes}, precision="other")
    toggled = publish("3", session=SessionOptions(disabled_optimizers=("SkipLayerNormFusion",)))
    other = publish("4", files={"model.onnx": graph_bytes + b" "})
    assert first.digest == same.digest
    assert len({first.digest, toggled.digest, other.digest}) == 3


def test_openvino_rounds_by_precision_so_its_digest_tells_it(publish):
    first = publish("1", engine="openvino", precision="fp32")
    rounded = publish("2", engine="openvino", precision="bf16")
    assert first.digest != rounded.digest


def tuned(instances: int) -> Tuned:
    return Tuned(
        instances=instances,
        threads=1,
        max_batch=8,
        max_padding=0.25,
        grouping="nearest",
        machine=Machine(cpu="some", cores=2),
    )


def test_a_tuned_set_up_is_kept_and_changes_no_answer(repository, publish):
    published = publish()
    for instances in (1, 2):
        told = repository.set_tuned(published, tuned(instances))
        opened = repository.open("text", "1")
        assert opened == told
        assert opened.manifest.tuned == tuned(instances)
        assert opened.digest == published.digest
    assert sorted(path.name for path in published.folder.parent.iterdir()) == ["1"]


def test_readers_see_one_set_up_or_the_other(repository, publish):
    published = publish()
    with ThreadPoolExecutor(1) as writers:
        writing = writers.submit(
            lambda: [repository.set_tuned(published, tuned(1 + n % 2)) for n in range(40)]
        )
        while not writing.done():
            assert repository.open("text", "1").digest == published.digest
        writing.result()


def test_a_set_up_that_cannot_be_written_is_told(repository, publish):
    published = publish()
    (published.folder / "manifest.json").unlink()
    (published.folder / "manifest.json").mkdir()
    with pytest.raises(ArtifactRejected, match="the manifest of 'text/1' cannot be written"):
        repository.set_tuned(published, tuned(1))
    assert sorted(path.name for path in published.folder.parent.iterdir()) == ["1"]


def test_a_baseline_is_kept_with_the_version_and_changes_no_answer(repository, publish):
    published = publish()
    assert repository.baseline("text", "1") is None
    for data in (b"first", b"second"):
        repository.set_baseline(published, data)
        assert repository.baseline("text", "1") == data
        assert repository.open("text", "1") == published
    assert sorted(path.name for path in published.folder.parent.iterdir()) == ["1"]


def test_no_other_file_may_stand_beside_the_manifest(repository, publish):
    published = publish()
    repository.set_baseline(published, b"{}")
    (published.folder / "baseline.json.new").write_bytes(b"{}")
    with pytest.raises(ArtifactRejected, match=r"'baseline\.json\.new' is not in the manifest"):
        repository.open("text", "1")


def test_a_baseline_that_is_a_link_or_too_large_is_refused(repository, publish, tmp_path):
    published = publish()
    path = published.folder / "baseline.json"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArtifactRejected, match=r"'baseline\.json' cannot be read"):
        repository.baseline("text", "1")
    path.unlink()
    path.write_bytes(b" " * (5 << 20))
    with pytest.raises(ArtifactRejected, match="larger than"):
        repository.baseline("text", "1")


def test_a_baseline_of_no_version_is_not_found(repository, publish):
    publish()
    with pytest.raises(NotFound, match="no version '7'"):
        repository.baseline("text", "7")


def test_a_report_is_given_as_it_was_published_or_not_at_all(repository, publish, graph_bytes):
    publish()
    assert repository.report("text", "1") is None
    published = publish("2", files={"model.onnx": graph_bytes, "report.html": b"<p>fast"})
    assert repository.report("text", "2") == b"<p>fast"
    (published.folder / "report.html").write_bytes(b"<p>slow")
    with pytest.raises(ArtifactRejected, match=r"'report\.html' is not the one published"):
        repository.report("text", "2")
