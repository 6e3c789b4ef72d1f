import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ArtifactRejected, CallerError, Conflict
from rollout import state as states
from rollout.plan import Plan
from rollout.state import State

PLAN = Plan(steps=(5.0, 50.0, 100.0), interval_s=1, soak_s=1)
NEW = State(model="m", stable="1")


def started(plan: Plan = PLAN) -> State:
    return states.start(NEW, "2", plan, "id", 10.0)


def shares(state: State) -> dict[str, float]:
    return dict(state.split.shares)


def test_a_rollout_goes_step_by_step_until_the_candidate_is_the_stable_version():
    state = started()
    seen = [shares(state)]
    while state.rollout is not None:
        state = states.advance(state, 11.0, "all guards hold")
        seen.append(shares(state))
    assert seen == [{"1": 1.0}, {"2": 0.05, "1": 0.95}, {"2": 0.5, "1": 0.5}, {"2": 1.0}, {"2": 1.0}]
    assert (state.stable, state.former) == ("2", "1")
    assert [event.what for event in state.history] == ["started", *["advanced"] * 3, "finished"]


def test_with_shadow_the_candidate_gets_copies_before_any_request():
    state = states.advance(started(PLAN.model_copy(update={"shadow": 20.0})), 11.0, "loaded")
    assert shares(state) == {"1": 1.0}
    assert state.split.shadow == ("2", 0.2)
    assert states.advance(state, 12.0, "same answers").split.shadow is None


@pytest.mark.parametrize("steps", range(4))
def test_whenever_it_is_rolled_back_the_stable_version_gets_everything(steps):
    state = started()
    for _ in range(steps):
        state = states.advance(state, 11.0, "")
    back = states.roll_back(state, 12.0, "errors", {"errors": 0.05})
    assert shares(back) == {"1": 1.0}
    assert (back.stable, back.rollout) == ("1", None)
    assert back.history[-1].figures == {"errors": 0.05}
    assert back.revision == state.revision + 1


def test_the_stable_version_is_there_until_the_soak_has_passed():
    state = states.promote(states.advance(started(), 11.0, "loaded"), 12.0, "by hand")
    assert shares(state) == {"2": 1.0}
    assert state.versions == ("1", "2")
    assert states.promote(state, 13.0, "by hand").versions == ("2",)


def test_a_candidate_that_is_not_loaded_is_not_promoted():
    with pytest.raises(Conflict, match="not loaded yet"):
        states.promote(started(), 11.0, "")


def test_a_second_rollout_is_refused_while_one_runs():
    with pytest.raises(Conflict, match="to version '2' is under way"):
        states.start(started(), "3", PLAN, "id", 11.0)
    with pytest.raises(Conflict, match="under way"):
        states.start_trial(started(), {"1": 50.0, "3": 50.0}, "id", 11.0)


def test_the_version_that_answers_is_no_candidate():
    with pytest.raises(Conflict, match="answers already"):
        states.start(NEW, "1", PLAN, "id", 11.0)


def test_a_paused_rollout_keeps_its_shares_and_begins_the_step_anew():
    state = states.advance(started(), 11.0, "loaded")
    paused = states.pause(state, 12.0, "lunch")
    assert shares(paused) == shares(state)
    with pytest.raises(Conflict, match="paused already"):
        states.pause(paused, 13.0, "")
    resumed = states.resume(paused, 20.0, "")
    assert resumed.rollout is not None
    assert (resumed.rollout.paused, resumed.rollout.since) == ("", 20.0)
    with pytest.raises(Conflict, match="not paused"):
        states.resume(resumed, 21.0, "")


def test_what_needs_a_rollout_says_that_there_is_none():
    for change in (states.pause, states.resume, states.promote, states.roll_back):
        with pytest.raises(Conflict, match="no rollout of 'm'"):
            change(NEW, 1.0, "")


def test_a_test_shares_requests_among_variants_and_one_of_them_is_kept():
    state = states.begin_trial(states.start_trial(NEW, {"3": 25.0, "1": 75.0}, "id", 1.0), 2.0)
    assert shares(state) == {"1": 0.75, "3": 0.25}
    ended = states.end_trial(state, 3.0, "faster", keep="3")
    assert (ended.stable, ended.former, ended.trial) == ("3", "1", None)
    assert states.end_trial(state, 3.0, "").stable == "1"
    with pytest.raises(CallerError, match="no variant"):
        states.end_trial(state, 3.0, "", keep="9")


@pytest.mark.parametrize(
    ("variants", "why"),
    [
        ({"1": 50.0, "2": 40.0}, "90 percent"),
        ({"2": 50.0, "3": 50.0}, "must be one of the variants"),
        ({"1": 100.0}, "at least 2"),
    ],
)
def test_a_test_whose_shares_do_not_fit_is_refused(variants, why):
    with pytest.raises(CallerError, match=why):
        states.start_trial(NEW, variants, "id", 1.0)


def test_the_document_survives_its_file():
    state = states.roll_back(states.advance(started(), 11.0, "loaded", {"p99": 1.1}), 12.0, "p99")
    assert states.parse(states.dump(state), "m") == state


def test_history_is_bounded():
    state = NEW
    for number in range(300):
        state = states.roll_back(states.start(state, "2", PLAN, "id", float(number)), float(number), "")
    assert len(state.history) == 200
    assert states.parse(states.dump(state), "m") == state


@given(st.data())
def test_any_damage_to_the_file_is_found(data):
    whole = states.dump(started())
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    damaged = whole[:at] + bytes([byte]) + whole[at + 1 :]
    try:
        found = states.parse(damaged, "m")
    except ArtifactRejected:
        return
    assert found == started()  # white space, or another way to write the same number


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"sha256": 1, "state": {}}', b"[" * 100_000]
)
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(ArtifactRejected, match="damaged"):
        states.parse(data, "m")


def test_another_models_file_is_refused():
    with pytest.raises(ArtifactRejected, match="that of model 'm'"):
        states.parse(states.dump(started()), "other")


def test_a_state_with_its_own_digest_that_makes_no_sense_is_refused():
    document = json.loads(states.dump(started()))["state"]
    document["rollout"]["candidate"] = "1"
    data = json.dumps({"sha256": states._digest(document), "state": document}).encode()
    with pytest.raises(ArtifactRejected, match="the candidate is the stable version"):
        states.parse(data, "m")
