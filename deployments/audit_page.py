"""What an audit found, on the terminal and as one HTML page: no script, nothing loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from optimize.page_markup import Part, table, tag, whole_page
from rollout.audit import Audit
from rollout.audit_versions import age_days
from rollout.facts import ModelFacts
from rollout.findings import Finding, in_words
from rollout.traffic import Quantile

_ACTIONS = ("", "of", "found", "to do", "expected gain")
_FIGURES = ("of", "age", "a second", "P50", "P95", "P99", "hits", "errors", "engines", "busy", "right")
_NOT_KNOWN = "-"


def as_tables(audit: Audit) -> list[Table]:
    """What to do, the largest gain first, and the figures of each model."""
    actions = Table(*_ACTIONS, title="What to do", show_lines=True)
    for number, finding in enumerate(audit.findings, 1):
        gain = f"{in_words(finding.gain)}\n{finding.gain.basis}"
        actions.add_row(str(number), _of(finding), finding.found, finding.action, gain)
    figures = Table(*_FIGURES, title="As it is")
    for model in audit.facts.models:
        figures.add_row(*_figures(audit, model))
    return [figures, *([actions] if audit.findings else [])]


def as_html(audit: Audit) -> str:
    """A complete page."""
    count = len(audit.findings)
    title = "Audit"
    lead = f"{count} thing{'s' * (count != 1)} to do" if count else "Nothing to do"
    told = f"{lead}, as of {audit.facts.at:%Y-%m-%d %H:%M} UTC."
    seconds = next((model.lately.seconds for model in audit.facts.models if model.lately), None)
    caption = "Of the versions that answer; hits and errors are those since their processes started. "
    caption += "No server was asked." if seconds is None else f"All else is of {seconds:.0f} s."
    sections = [
        tag("header", tag("h1", title), tag("p", told, class_="lead")),
        *([tag("section", tag("h2", "What to do"), _actions(audit))] if count else []),
        tag(
            "section",
            tag("h2", "As it is"),
            table(caption, _FIGURES, [_figures(audit, model) for model in audit.facts.models]),
        ),
    ]
    if audit.unknown:
        items = [tag("li", words) for words in audit.unknown]
        sections.append(tag("section", tag("h2", "What is not known"), tag("ul", *items)))
    return whole_page(title, *sections)


def _actions(audit: Audit) -> Part:
    rows: list[Sequence[Part]] = [
        (
            str(number),
            _of(finding),
            finding.found,
            tag("span", f"{finding.action}: ", tag("code", finding.command)),
            tag("span", in_words(finding.gain), " ", tag("span", finding.gain.basis, class_="soft")),
        )
        for number, finding in enumerate(audit.findings, 1)
    ]
    return table("The largest gain first: what callers feel, then what is paid for.", _ACTIONS, rows)


def _of(finding: Finding) -> str:
    return f"{finding.model}/{finding.version}" if finding.model else "the server"


def _figures(audit: Audit, model: ModelFacts) -> list[str]:
    lately, so_far, age = model.lately, model.so_far, age_days(model.manifest, audit.facts.at)
    quantiles = [lately.latency.quantile(share) if lately else None for share in (0.5, 0.95, 0.99)]
    return [
        f"{model.name}/{model.version}",
        _NOT_KNOWN if age is None else f"{age:.0f} d",
        _NOT_KNOWN if lately is None or lately.per_s is None else f"{lately.per_s:.3g}",
        *map(_ms, quantiles),
        _share(so_far.hit_rate if so_far else None),
        _share(so_far.error_share if so_far else None),
        _NOT_KNOWN if model.engines is None else str(model.engines),
        _share(model.busy),
        _share(model.judged.accuracy if model.judged else None),
    ]


def _ms(found: Quantile | None) -> str:
    """Between which edges it is: more is not known."""
    if found is None:
        return _NOT_KNOWN
    if math.isinf(found.high_s):
        return f"over {1000 * found.low_s:g} ms"
    return f"{1000 * found.low_s:g} to {1000 * found.high_s:g} ms"


def _share(value: float | None) -> str:
    return _NOT_KNOWN if value is None else f"{value:.1%}" if value >= 0.1 or not value else f"{value:.2%}"
