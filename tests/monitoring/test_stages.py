from __future__ import annotations

import pytest

from headrace.requests import Tier, Timings
from monitoring.stages import STAGES, stages_of

COMPUTED = Timings(
    queued_s=0.003, ran_s=0.010, batch_rows=4, tier="miss", padded_s=0.002, held_s=0.004, hop_s=0.001
)


def test_all_stages_add_up_to_all_the_time() -> None:
    spent = dict(zip(STAGES, stages_of(COMPUTED, 0.020, wire_s=0.1, decode_s=0.2, encode_s=0.3), strict=True))
    assert sum(spent.values()) == pytest.approx(0.620)
    assert spent == pytest.approx(
        {
            "wire": 0.101,
            "decode": 0.2,
            "cache": 0.002,
            "queue": 0.007,
            "pad": 0.002,
            "engine": 0.008,
            "encode": 0.3,
        }
    )


@pytest.mark.parametrize("tier", ["memory", "redis", "flight"])
def test_what_another_request_had_computed_took_the_caller_no_engine(tier: Tier) -> None:
    spent = stages_of(COMPUTED.from_tier(tier), 0.020)
    assert spent == (0.0, 0.0, 0.020, 0.0, 0.0, 0.0, 0.0)


def test_parts_that_ran_side_by_side_are_no_longer_than_the_whole() -> None:
    spent = stages_of(Timings(queued_s=0.01, ran_s=0.09, padded_s=0.03), 0.05, wire_s=0.01)
    assert sum(spent) == pytest.approx(0.06)
    assert spent == pytest.approx((0.01, 0.0, 0.0, 0.005, 0.015, 0.03, 0.0))
