"""What models that run one after the other take and give as one (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.config import check_name
from headrace.errors import ConfigRejected
from headrace.tensors import Signature, TensorSpec


@dataclass(frozen=True, slots=True)
class Step:
    """A version of a model, or a pipeline: `digest` names its answers."""

    name: str
    version: str
    digest: str
    signature: Signature


def joined(name: str, steps: Sequence[Step]) -> Step:
    """The steps as one: what no step before gives is an input of the whole, the last one's outputs are its
    outputs. ConfigRejected when a step cannot take what another one gives."""
    given: dict[str, tuple[str, TensorSpec]] = {}  # by whom; "" is the request
    inputs: list[TensorSpec] = []
    limits: dict[str, int] = {}
    for number, step in enumerate(steps):
        for spec in step.signature.inputs:
            if spec.name not in given:
                given[spec.name] = "", spec
                inputs.append(spec)
                limits |= {dim: size for dim, size in step.signature.limits.items() if dim in spec.shape}
            else:
                _check(name, step.name, spec, *given[spec.name])
        taken = {spec.name for spec in step.signature.inputs}
        before = [spec.name for spec in steps[number - 1].signature.outputs] if number else []
        if number and not taken & set(before):
            raise ConfigRejected(
                f"pipeline {name!r}: step {step.name!r} takes {sorted(taken)}, none of which "
                f"{steps[number - 1].name!r} before it gives ({sorted(before)})"
            )
        given |= {spec.name: (step.name, spec) for spec in step.signature.outputs}
    signature = Signature(tuple(inputs), steps[-1].signature.outputs, limits)
    return Step(name, _version(steps), _digest(steps), signature)


def _check(pipeline: str, step: str, wanted: TensorSpec, giver: str, given: TensorSpec) -> None:
    if (wanted.dtype, len(wanted.shape)) != (given.dtype, len(given.shape)):
        whose = f"step {giver!r} gives" if giver else "another step takes"
        raise ConfigRejected(
            f"pipeline {pipeline!r}: step {step!r} takes '{wanted.name}' as {wanted.dtype} "
            f"{list(wanted.shape)}, but {whose} it as {given.dtype} {list(given.shape)}"
        )


def _version(steps: Sequence[Step]) -> str:
    """Those of the steps, or as much of their digest as tells versions apart when they are too long."""
    told = "-".join(step.version for step in steps)
    try:
        return check_name(told)
    except ValueError:
        return _digest(steps)[:16]


def _digest(steps: Sequence[Step]) -> str:
    return hashlib.sha256("\n".join(step.digest for step in steps).encode()).hexdigest()
