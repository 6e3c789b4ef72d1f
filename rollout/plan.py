"""How a new version is to take over: its steps, its guards, and how much must be seen before each."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rollout.guards import DEFAULT_GUARDS, Guard, parse_guard

Percent = Annotated[float, Field(gt=0, le=100)]
FALSE_ALARMS = 0.01  # of all rollouts of a version that is as good: the most that are rolled back


class Plan(BaseModel):
    """It is part of rollout.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    steps: tuple[Percent, ...] = Field(default=(1.0, 5.0, 25.0, 50.0, 100.0), min_length=1, max_length=50)
    interval_s: float = Field(default=30.0, ge=1, le=86_400)  # of each step, at least
    guards: tuple[str, ...] = DEFAULT_GUARDS
    min_sample: int = Field(default=200, ge=1, le=10_000_000)  # requests of the candidate in each step
    shadow: float = Field(
        default=0.0, ge=0, le=100
    )  # percent of requests that are copied before the first step
    soak_s: float = Field(default=60.0, ge=0, le=604_800)  # at 100%, with the former version kept warm

    @model_validator(mode="after")
    def _steps_rise(self) -> Plan:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 100:
            raise ValueError(
                f"steps are {', '.join(f'{step:g}' for step in self.steps)}; they must rise and end with 100"
            )
        return self

    def parsed_guards(self) -> list[Guard]:
        return [parse_guard(text) for text in self.guards]
