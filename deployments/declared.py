"""What a configuration declares about a model's answers, checked against its versions."""

from __future__ import annotations

import logging

from engines.artifact import Repository
from engines.manifest import Manifest
from headrace.config import AnswerConfig, ModelConfig, OverloadConfig
from headrace.errors import ConfigRejected
from rollout.compare import check_rules

_log = logging.getLogger(__name__)

_ROUNDING = 1e-9


def check_declared(model: ModelConfig, answering: Manifest, cheaper: Manifest | None) -> None:
    """ConfigRejected for rules about outputs that the answering version does not have, or for a cheaper
    version that may not answer for it; None: that is not asked."""
    check_rules(answering.name, answering.signature, model.answers, "answers")
    if model.feedback is not None:
        rule = AnswerConfig(rule=model.feedback.rule)
        check_rules(answering.name, answering.signature, {model.feedback.output: rule}, "feedback")
    if model.overload is None or cheaper is None:
        return
    if problem := why_not_cheaper(model.overload, answering, cheaper):
        raise ConfigRejected(f"models.{answering.name}.overload: {problem}")


def cheaper_for(model: ModelConfig, answering: Manifest, repository: Repository) -> str | None:
    """The version that may answer what this one refuses, if one is declared. A rollout may have brought one
    of which nobody knows that it may: then there is none."""
    if model.overload is None:
        return None
    cheaper = repository.manifest(answering.name, model.overload.version)
    problem = why_not_cheaper(model.overload, answering, cheaper)
    if problem and cheaper.version != answering.version:
        _log.warning(f"{answering.name}/{answering.version} refuses what is too much: {problem}")
    return None if problem else cheaper.version


def why_not_cheaper(overload: OverloadConfig, answering: Manifest, cheaper: Manifest) -> str:
    """Why one version may not answer for another one under overload; "" when it may."""
    told = f"version {cheaper.version!r}"
    if cheaper.version == answering.version:
        return f"{told} answers anyway; name another one"
    if cheaper.signature != answering.signature:
        return f"{told} takes or gives other tensors than version {answering.version!r} does"
    usual, less = answering.figures.get("accuracy"), cheaper.figures.get("accuracy")
    if usual is None or less is None:
        unknown = answering if usual is None else cheaper
        return (
            f"the accuracy of version {unknown.version!r} is unknown; headrace optimize measures it and "
            "writes it into the manifest"
        )
    if usual - less > overload.max_drop + _ROUNDING:
        return (
            f"{told} has an accuracy of {less:.4g}, version {answering.version!r} of {usual:.4g}: "
            f"{usual - less:.2g} less, and max_drop is {overload.max_drop:g}"
        )
    return ""
