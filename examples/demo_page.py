"""The demo's result as one page: the table, the latencies as bars, and how the model was made."""

from __future__ import annotations

from html import escape
from typing import Any

from examples.demo_result import Result, compared
from optimize.report import Report
from optimize.table import comparison

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2730; --paper: #fbfcfc; --soft: #66757f; --line: #d9e0e4;
  --before: #9aa8b1; --after: #0b7a75; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4ebee; --paper: #12181c; --soft: #93a3ac;
  --line: #2b363d; --before: #5f6f79; --after: #3fbdb5; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
p, figcaption { color: var(--soft); }
figure { margin: 1.5rem 0; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.before { fill: var(--before); } .after { fill: var(--after); }
"""


def as_html(document: dict[str, Any], result: Result, report: Report) -> str:
    """A page that needs nothing but itself."""
    before, after = document["rows"]
    machine = document["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Headrace: the main job</title><style>{_STYLE}</style></head><body>
<h1>{after["rows_per_s"] / before["rows_per_s"]:.1f} times the requests per second</h1>
<p>{document["messages"]} real chat messages in time order over HTTP, {document["concurrency"]} at a time.
Machine: {escape(where)}.</p>
{_table(("", before["name"], after["name"]), compared(result.baseline, result.served))}
{_bars("Latency, milliseconds", [("P50", "p50_ms"), ("P95", "p95_ms"), ("P99", "p99_ms")], before, after)}
{_bars("Requests per second", [("rows/s", "rows_per_s")], before, after)}
<h2>How the model was made</h2>
{_table(("", "before", "after"), comparison(report))}
<p>Repeat with <code>{escape(report.command)}</code></p>
</body></html>
"""


def _table(head: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _bars(title: str, rows: list[tuple[str, str]], before: dict[str, Any], after: dict[str, Any]) -> str:
    longest = max(max(before[key], after[key]) for _, key in rows)
    parts = []
    for number, (name, key) in enumerate(rows):
        y = number * 56
        parts.append(f'<text x="0" y="{y + 28}">{escape(name)}</text>')
        for row, kind, shift in ((before, "before", 4), (after, "after", 26)):
            width = max(2.0, 480 * row[key] / longest)
            parts.append(
                f'<rect class="{kind}" x="60" y="{y + shift}" width="{width:.1f}" height="18" rx="2"/>'
                f'<text x="{66 + width:.1f}" y="{y + shift + 14}">{row[key]:.1f}</text>'
            )
    label = f"{title}: {before['name']} above, {after['name']} below"
    drawing = f'<svg viewBox="0 0 640 {len(rows) * 56}" role="img" aria-label="{escape(label)}">'
    return f"<figure>{drawing}{''.join(parts)}</svg><figcaption>{escape(label)}.</figcaption></figure>"
