"""The report as one HTML page: no script, nothing loaded from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from html import escape

from optimize.report import Report, Row, comparison

_WIDTH, _HEIGHT = 560, 320  # of the plot, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 40, 30, 50  # margins

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5d6b79; --line: #d5dce3; --paper: #ffffff;
  --before: #8a97a5; --after: #0b7a75; --miss: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa7b4; --line: #36414d;
  --paper: #12181f; --before: #8a97a5; --after: #4fd1c5; --miss: #ff8a80; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: var(--soft); }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line); }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .8rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 13px; }
.soft { fill: var(--soft); color: var(--soft); } .axis { stroke: var(--line); }
.before { fill: var(--before); } .after { fill: var(--after); }
.step { stroke: var(--after); stroke-dasharray: 4 4; } .miss { color: var(--miss); }
"""


def as_html(report: Report) -> str:
    """A complete page; everything that is not ours to write is escaped."""
    title = escape(f"{report.model}: {report.before.precision} to {report.after.precision}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p>{_summary(report)}</p>
{_plot(report)}
<h2>Before and after</h2>
{_table(("", "before", "after"), comparison(report))}
<h2>Goals</h2>
{_goals(report)}
<h2>Measured on</h2>
{_table(("", ""), _machine(report))}
<h2>Repeat</h2>
<pre>{escape(report.command)}</pre>
<p class="soft">{escape(report.created)}</p>
</body>
</html>
"""


def _summary(report: Report) -> str:
    change = f"accuracy {-report.drop:+.4f}"
    return escape(
        f"{report.speedup:.2f} times the rows per second on one thread, {report.size_ratio:.2f} of the "
        f"size, {change}."
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    titles = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _goals(report: Report) -> str:
    missed = {miss.goal: miss for miss in report.misses}
    asked = {name: wanted for name, wanted in asdict(report.goals).items() if wanted is not None}
    if not asked:
        return "<p>No goal was set.</p>"
    reached = {"max_drop": report.drop, "min_speedup": report.speedup, "max_size": report.size_ratio}
    rows = [
        (name, f"{wanted:g}", f"{reached[name]:.4g}", "missed" if name in missed else "reached")
        for name, wanted in asked.items()
    ]
    table = _table(("goal", "wanted", "measured", ""), rows)
    return table.replace("<td>missed</td>", '<td class="miss">missed</td>')


def _machine(report: Report) -> list[tuple[str, ...]]:
    machine = report.machine
    return [
        ("CPU", f"{machine.cpu}, {machine.cores} cores, {machine.system}"),
        ("instructions", ", ".join(machine.flags) or "unknown"),
        *((name, version) for name, version in machine.versions.items()),
    ]


def _plot(report: Report) -> str:
    """Latency across, size upwards: nearer to the lower left corner is better."""
    rows = (report.before, report.after)
    most_ms = max(row.measured.latency_ms for row in rows) * 1.25
    most_mb = max(row.measured.size_bytes for row in rows) / 1e6 * 1.25
    x0, y0 = _LEFT, _HEIGHT - _BOTTOM

    def place(row: Row) -> tuple[float, float]:
        across = row.measured.latency_ms / most_ms * (_WIDTH - _LEFT - _RIGHT)
        upwards = row.measured.size_bytes / 1e6 / most_mb * (_HEIGHT - _TOP - _BOTTOM)
        return x0 + across, y0 - upwards

    (bx, by), (ax, ay) = (place(row) for row in rows)
    return f"""<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Size against latency">
<line class="axis" x1="{x0}" y1="{y0}" x2="{_WIDTH - _RIGHT}" y2="{y0}"/>
<line class="axis" x1="{x0}" y1="{y0}" x2="{x0}" y2="{_TOP}"/>
<text class="soft" x="{_WIDTH - _RIGHT}" y="{y0 + 34}" text-anchor="end">latency, ms (to {most_ms:.1f})</text>
<text class="soft" x="{x0}" y="{_TOP - 10}">size, MB (to {most_mb:.0f})</text>
<line class="step" x1="{bx:.1f}" y1="{by:.1f}" x2="{ax:.1f}" y2="{ay:.1f}"/>
{_point("before", bx, by, report.before)}
{_point("after", ax, ay, report.after)}
</svg>"""


def _point(kind: str, x: float, y: float, row: Row) -> str:
    measured = row.measured
    told = escape(f"{row.precision}: {measured.latency_ms:.2f} ms, {measured.size_bytes / 1e6:.1f} MB")
    side = "end" if x > _WIDTH / 2 else "start"
    shift = -12 if side == "end" else 12
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="7"/>'
        f'<text x="{x + shift:.1f}" y="{y - 8:.1f}" text-anchor="{side}">{told}</text>'
        f'<text class="soft" x="{x + shift:.1f}" y="{y + 10:.1f}" text-anchor="{side}">'
        f"accuracy {measured.accuracy:.4f}</text>"
    )
