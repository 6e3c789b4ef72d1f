"""Five minutes for real and simulated: python -m benchmarks.agreement

A model that takes a known time (`benchmarks.timed`) is served, scaled and asked by a profile of three steps.
The same arrivals are then simulated, with the starts and stops that were seen. How late the client itself was
tells whether the machine had time for all this.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autoscaling.contenders import Headrace
from autoscaling.outcome import Outcome
from autoscaling.policy import Goals
from autoscaling.simulate import simulate
from autoscaling.starts import Starts
from autoscaling.trace import Trace
from autoscaling.traffic import Served
from benchmarks import step, timed
from benchmarks.figures import Figure, arguments, finish
from benchmarks.replay import Replayed, Watch, replayed
from deployments.autoscale import goals_of
from deployments.serving import serving
from headrace.config import AutoscalingConfig

PROFILE = step.Profile(((10, 40), (100, 50), (10, 50), (80, 50), (10, 50), (120, 60)))
QUICK = step.Profile(((10, 10), (80, 20)))
USUAL_START_S = 3.1  # a process and this engine, as deployments.autoscale expects
GAP_S = 0.004  # from one batch to the next, and by which sleeps last longer: measured
_SETTLES_S = 3.0
_APPLICATION = f"headrace:{step.MODEL}:1"
SCALING = AutoscalingConfig(max_replicas=6, objective_ms=1000.0, down_after_s=20.0, starts_at_once=2)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Both runs of the same arrivals."""

    real: Outcome
    simulated: Outcome
    late_ms: float  # P99 of the client's own delay
    watch: Watch
    starts: Starts  # as seen

    @property
    def replica_hours(self) -> float:
        """Simulated, as a share of the real ones."""
        return self.simulated.replica_s / self.real.replica_s

    @property
    def misses(self) -> float:
        return self.simulated.misses / max(1, self.real.misses)


def agreement(folder: Path, profile: step.Profile = PROFILE) -> Agreement:
    """Serve the model from this folder, and compare. It takes as long as the profile."""
    step.published(folder)
    config = step.configuration(folder, autoscaling=SCALING.model_dump())
    times = profile.arrivals()
    with serving(config):
        time.sleep(_SETTLES_S)
        run = replayed(step.HOST, config.http.port, _APPLICATION, [step.request()] * len(times), times)
    goals = goals_of(SCALING)
    seen = starts(run)
    return Agreement(
        run.outcome("real", goals.objective_s),
        simulated(run, seen, goals, config.gateways),
        run.load.late_ms(99),
        run.watch,
        seen,
    )


def simulated(run: Replayed, seen: Starts, goals: Goals, gateways: int) -> Outcome:
    """The same arrivals with the same starts and stops."""
    times = run.load.intended - run.load.intended[0]
    batches = tuple((rows, GAP_S + timed.BASE_S + rows * timed.ROW_S) for rows in (1, step.MAX_BATCH))
    served = Served(batches, max_batch=step.MAX_BATCH, gateways=gateways, max_queue=100_000)
    policy = Headrace(goals, served.cost(), USUAL_START_S)
    return simulate(Trace(times), served, seen, goals, policy, "simulated")


def starts(run: Replayed) -> Starts:
    """What was seen of starts and stops."""
    usual, stop_s, seen = Starts((USUAL_START_S,)), run.watch.stop_s(), run.watch.starts()
    if not math.isnan(stop_s):
        usual = replace(usual, stop_s=stop_s)
    if not seen:
        return usual
    return replace(usual, seconds=tuple(took for _, took in seen), began=tuple(at for at, _ in seen))


def figures(found: Agreement) -> Iterator[Figure]:
    for name, outcome in (("real", found.real), ("simulated", found.simulated)):
        yield Figure(f"{name}: replica-hours", outcome.replica_hours, "h")
        yield Figure(f"{name}: objective missed", outcome.misses, f"of {len(outcome.latency)}")
        yield Figure(f"{name}: P50", 1000 * outcome.percentile_s(50), "ms")
        yield Figure(f"{name}: P99", 1000 * outcome.percentile_s(99), "ms")
        yield Figure(f"{name}: most replicas", outcome.most_replicas, "")
    yield Figure("replica-hours, simulated / real", found.replica_hours, "")
    yield Figure("off by", abs(found.replica_hours - 1), "", "<= 0.15")
    yield Figure("misses, simulated / real", found.misses, "")
    yield Figure("off by", abs(found.misses - 1), "", "<= 0.15")
    yield Figure("P99 of the client's own delay", found.late_ms, "ms")


def main() -> int:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        found = agreement(Path(folder), QUICK if options.quick else PROFILE)
    details = {"starts": asdict(found.starts), "looks": [asdict(look) for look in found.watch.looks]}
    return finish(list(figures(found)), options.json, details)


if __name__ == "__main__":
    sys.exit(main())
