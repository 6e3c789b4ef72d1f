from rollout.evidence import Slot, Slots, together
from rollout.gather import Gathered


def told(seconds: range, requests: int = 1) -> Slots:
    return {at: {"1": Slot(requests=requests)} for at in seconds}


def test_each_gateways_seconds_are_counted_once_and_a_running_one_later():
    gathered = Gathered()
    assert gathered.begin("id", 100) == 100
    gathered.take({"a": (103.4, told(range(100, 104))), "b": (103.6, told(range(100, 104)))}, 103.5)
    assert {at: slot["1"].requests for at, slot in gathered.slots.items()} == {100: 2, 101: 2, 102: 2}
    assert gathered.until == 103.0
    assert gathered.begin("id", 0) == 103
    gathered.take({"a": (104.2, told(range(102, 105))), "b": (104.3, told(range(102, 105)))}, 104.3)
    assert gathered.slots[102]["1"].requests == 2
    assert gathered.slots[103]["1"].requests == 2


def test_nothing_is_known_beyond_the_slowest_gateway():
    gathered = Gathered()
    gathered.begin("id", 100)
    gathered.take({"a": (105.0, told(range(100, 105))), "b": (102.0, told(range(100, 102)))}, 105.0)
    assert gathered.until == 102.0
    assert gathered.begin("id", 0) == 102


def test_a_gateway_that_is_gone_is_not_waited_for():
    gathered = Gathered()
    gathered.begin("id", 100)
    gathered.take({"a": (102.0, told(range(100, 102))), "b": (102.0, told(range(100, 102)))}, 102.0)
    gathered.take({"a": (108.0, told(range(102, 108)))}, 108.0)
    assert gathered.until == 102.0
    gathered.take({"a": (115.0, told(range(108, 115)))}, 115.0)
    assert gathered.until == 115.0
    assert together(slot["1"] for slot in gathered.slots.values()).requests == 15 + 2


def test_another_rollout_begins_anew():
    gathered = Gathered()
    gathered.begin("one", 100)
    gathered.take({"a": (105.0, told(range(100, 105)))}, 105.0)
    assert gathered.begin("two", 103) == 103
    assert gathered.slots == {}


def test_a_test_of_days_keeps_its_sums_in_longer_slots():
    gathered = Gathered()
    gathered.begin("id", 0)
    for end in range(600, 36_001, 600):
        gathered.take({"a": (float(end), told(range(end - 600, end)))}, float(end))
    assert len(gathered.slots) < 8_000
    assert together(slot["1"] for slot in gathered.slots.values()).requests == 36_000
    assert sum(gathered.lasts_s.get(at, 1) for at in gathered.slots) == 36_000


def test_replicas_count_by_the_time_that_they_are_there():
    gathered = Gathered()
    gathered.begin("id", 0)
    for now in range(1, 11):
        gathered.count_replicas({"1": 2, "2": 1}, float(now), 1.0)
    found = [together(slot[name] for slot in gathered.slots.values()).replica_s for name in ("1", "2")]
    assert found == [20.0, 10.0]
