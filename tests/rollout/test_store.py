import multiprocessing
from pathlib import Path

import pytest

from headrace.errors import ArtifactRejected, Conflict
from rollout import state as states
from rollout.plan import Plan
from rollout.state import FILE, PREVIOUS, State
from rollout.store import Store, stable_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    return tmp_path


def start(state: State) -> State:
    return states.start(state, "2", Plan(), "id", 1.0)


def test_a_model_without_a_file_has_no_state(root):
    store = Store(root)
    assert store.read("m") is None
    assert store.stamp("m") is None
    assert stable_of(store, "m", "7") == ("7", "")


def test_a_change_is_there_for_every_reader_and_its_stamp_is_another(root):
    stamps = [Store(root).stamp("m")]
    Store(root).change("m", "1", start)
    stamps.append(Store(root).stamp("m"))
    Store(root).change("m", "9", lambda state: states.roll_back(state, 2.0, "why"))
    stamps.append(Store(root).stamp("m"))
    found = Store(root).read("m")
    assert found is not None
    assert (found.stable, found.revision, len(set(stamps))) == ("1", 2, 3)


def test_a_change_that_is_refused_leaves_the_file_as_it_was(root):
    store = Store(root)
    store.change("m", "1", start)
    before = (root / "m" / FILE).read_bytes()
    with pytest.raises(Conflict):
        store.change("m", "1", start)
    assert (root / "m" / FILE).read_bytes() == before


def test_a_damaged_file_is_told_and_the_state_before_is_used(root):
    store = Store(root)
    store.change("m", "1", start)
    store.change("m", "1", lambda state: states.roll_back(state, 2.0, "why"))
    path = root / "m" / FILE
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactRejected, match="damaged"):
        store.read("m")
    with pytest.raises(ArtifactRejected, match="damaged"):
        store.change("m", "1", start)
    stable, problem = stable_of(store, "m", "9")
    assert stable == "1"
    assert "damaged" in problem
    (root / "m" / PREVIOUS).write_bytes(b"damaged, too")
    assert stable_of(store, "m", "9")[0] == "9"


def test_a_model_without_a_folder_is_told_without_its_path(tmp_path):
    with pytest.raises(ArtifactRejected, match="cannot be written") as caught:
        Store(tmp_path).change("m", "1", start)
    assert str(tmp_path) not in str(caught.value)


def _add_events(root: Path, count: int) -> None:
    for _ in range(count):
        Store(root).change("m", "1", lambda state: state.model_copy(update={"revision": state.revision + 1}))


def test_changes_of_several_processes_are_all_there(root):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_events, args=(root, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    found = Store(root).read("m")
    assert found is not None
    assert found.revision == 60
    assert sorted(path.name for path in (root / "m").iterdir()) == [".rollout.lock", FILE, PREVIOUS]
