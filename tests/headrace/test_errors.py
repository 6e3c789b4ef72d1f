"""Errors keep their class and message on the way between processes."""

import pickle

import pytest

from headrace import errors

TREE = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.HeadraceError)
]


@pytest.mark.parametrize("kind", TREE)
def test_an_error_survives_the_way_between_processes(kind: type[errors.HeadraceError]) -> None:
    there = pickle.loads(pickle.dumps(kind("what was wrong")))
    assert (type(there), str(there)) == (kind, "what was wrong")


@pytest.mark.parametrize("kind", [kind for kind in TREE if issubclass(kind, errors.CallerError)])
def test_a_callers_mistake_is_never_a_5xx(kind: type[errors.CallerError]) -> None:
    assert 400 <= kind.status < 500


def test_kinds_label_metrics_and_are_all_different() -> None:
    assert len({kind.kind for kind in TREE}) == len(TREE)
