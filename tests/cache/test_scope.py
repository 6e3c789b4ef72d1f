"""Names of entries, and which of them a purge is about."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.scope import Scope, name_of
from headrace.errors import CallerError

KEY = bytes(range(32))
NAMES = st.sampled_from(["a", "aa", "a.b", "a-b", "1", "12"])
TENANTS = st.sampled_from(["", "-", "acme", "acme:*", "a:b:c", "\n", "\ud800"])
ENTRIES = st.tuples(NAMES, NAMES, TENANTS)


def test_a_name_shows_model_and_version_and_hides_the_tenant() -> None:
    name = name_of("minilm", "2", "s3cret", KEY)
    assert name.startswith(b"minilm:2:")
    assert name.endswith(KEY.hex().encode())
    assert b"s3cret" not in name
    assert name_of("minilm", "2", "", KEY) == b"minilm:2:-:" + KEY.hex().encode()


@given(ENTRIES, ENTRIES)
def test_names_differ_as_entries_do(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (name_of(*one, KEY) == name_of(*other, KEY)) == (one == other)


@given(ENTRIES, st.none() | NAMES, st.none() | NAMES, st.none() | TENANTS)
def test_a_scope_matches_what_has_all_that_it_gives_and_its_pattern_the_same(
    entry: tuple[str, str, str], model: str | None, version: str | None, tenant: str | None
) -> None:
    if version and not model:
        return
    scope = Scope.of(model, version, tenant)
    name = name_of(*entry, KEY)
    given_ = zip(entry, (model, version, tenant), strict=True)
    assert scope.matches(name) == all(want is None or part == want for part, want in given_)
    assert fnmatch.fnmatchcase(name.decode(), scope.pattern()) == scope.matches(name)
    assert Scope.loads(scope.dumps().encode()) == scope


@pytest.mark.parametrize("model", ["*", "a:b", "a/b", "[a]", "..", "a" * 65])
def test_a_name_that_no_model_has_is_refused(model: str) -> None:
    with pytest.raises(CallerError, match="1 to 64 of the characters"):
        Scope.of(model, None, None)


def test_one_answer_is_meant_by_its_key() -> None:
    scope = Scope.of(None, None, None, KEY.hex())
    other = bytes(reversed(KEY))
    for model in ("a", "b"):
        assert scope.matches(name_of(model, "1", "acme", KEY))
        assert not scope.matches(name_of(model, "1", "acme", other))
    assert scope.pattern() == f"*:*:*:{KEY.hex()}"
    assert Scope.loads(scope.dumps().encode()) == scope
    for key in ("*", KEY.hex()[:-1], KEY.hex().upper()):
        with pytest.raises(CallerError, match="64 hexadecimal digits"):
            Scope.of(None, None, None, key)


def test_a_version_without_a_model_is_refused() -> None:
    with pytest.raises(CallerError, match="give both"):
        Scope.of(None, "1", None)


@pytest.mark.parametrize("text", [b"", b"log 12ab", b"[]", b"7", b'{"models": "a"}', b"\xff"])
def test_what_is_no_scope_is_none(text: bytes) -> None:
    assert Scope.loads(text) is None
