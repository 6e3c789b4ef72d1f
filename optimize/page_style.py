"""How the page of a report looks: light and dark, wide and narrow."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #f6f8fa; --card: #ffffff; --ink: #17212b; --soft: #57636f; --line: #dde3e9; --grid: #e9edf1;
  --original: #64707c; --chosen: #0b7a75; --good: #2463b4; --missed: #b4471b; --failed: #a3243b;
  --goal: #0b7a7512; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #10161c; --card: #171f27; --ink: #e5ebf0; --soft: #9aa7b3; --line: #2c3742; --grid: #232d37;
  --original: #9aa7b3; --chosen: #4fd1c5; --good: #7cb0f5; --missed: #f2986b; --failed: #f5899c;
  --goal: #4fd1c514; } }
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); margin: 0 auto; max-width: 66rem;
  padding: 2.2rem 1.2rem 3rem; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .1rem 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
p { margin: .4rem 0; max-width: 75ch; }
.lead { font-size: 1.15rem; } .soft, caption { color: var(--soft); }
.eyebrow { color: var(--soft); font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
section, .tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section { margin-top: 1.2rem; padding: 1.1rem 1.3rem; }

.tiles { display: grid; gap: .8rem; grid-template-columns: repeat(4, minmax(0, 1fr));
  margin: 1.2rem 0 0; padding: 0; }
.tile { padding: .8rem 1rem; } .tile dt { color: var(--soft); font-size: .85rem; } .tile dd { margin: 0; }
.tile .value { font-size: 1.7rem; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile .note { color: var(--soft); font-size: .85rem; }

figure { margin: 0; } figcaption { color: var(--soft); font-size: .9rem; }
svg.plot { display: block; width: 100%; height: auto; } svg.narrow { display: none; }
svg text { fill: var(--ink); font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
svg .tick { fill: var(--soft); font-size: 12px; } svg .name { fill: var(--soft); font-weight: 600; }
.grid { stroke: var(--grid); } .axis { stroke: var(--line); stroke-width: 1.5; }
.key { fill: none; stroke: var(--soft); } .goal { fill: var(--goal); }
.front { fill: none; stroke: var(--chosen); stroke-width: 1.5; stroke-opacity: .7; }
.behind { fill: var(--card); fill-opacity: .8; } .leader { stroke: var(--soft); stroke-width: 1; }
.label text { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
.label.bold text { font-weight: 700; }
.area { stroke: currentColor; stroke-width: 1.8; fill: currentColor; fill-opacity: .16; }
.mark { fill: currentColor; stroke: none; }
.original { color: var(--original); } .chosen { color: var(--chosen); } .good { color: var(--good); }
.missed { color: var(--missed); } .refused, .skipped { color: var(--soft); } .failed { color: var(--failed); }
.original .area { fill-opacity: .28; stroke-width: 1; }
.chosen .area { fill-opacity: .4; stroke-width: 3; }
.missed .area { fill-opacity: .05; stroke-dasharray: 4 3; }
.missed .mark { fill: none; stroke: currentColor; stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; margin: .5rem 0; padding: 0;
  font-size: .9rem; }
.legend li { align-items: center; display: flex; gap: .4rem; } .legend span { color: var(--ink); }
.legend svg { flex: none; }

table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
caption { font-size: .9rem; padding-bottom: .4rem; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .9rem .45rem 0; text-align: left;
  vertical-align: top; }
thead th { color: var(--soft); font-size: .8rem; font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 500; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th, .words { overflow-wrap: anywhere; } .figure { white-space: nowrap; }
small { color: var(--soft); display: block; font-size: .82rem; }
.bar { background: var(--grid); border-radius: 2px; display: block; height: 4px; margin: .25rem 0;
  min-width: 3.5rem; }
.bar i { background: currentColor; border-radius: 2px; display: block; height: 100%; min-width: 1px; }
.badge { border: 1px solid currentColor; border-radius: 99px; font-size: .8rem; font-weight: 600;
  padding: .05rem .55rem; white-space: nowrap; }
.badge.chosen { background: var(--chosen); border-color: var(--chosen); color: var(--card); }
.beside { align-items: center; display: flex; gap: .7rem; white-space: nowrap; }
.beside .bar { color: var(--original); flex: 1; height: 10px; margin: 0; }
.beside span:last-child { min-width: 4.2rem; text-align: right; }
.layers th, .layers td { padding-bottom: .2rem; padding-top: .2rem; vertical-align: middle; }
.layers td:last-child { width: 42%; } .layers .bar { color: var(--missed); }
.layers tbody th { font: .8rem ui-monospace, "Cascadia Mono", Menlo, monospace; overflow-wrap: anywhere; }
.number { color: var(--soft); font-weight: 400; }

.flow { display: flex; flex-wrap: wrap; gap: .6rem 0; list-style: none; margin: .8rem 0; padding: 0; }
.flow li { border: 1px solid var(--line); border-radius: 8px; margin-right: 1.6rem; min-width: 0;
  padding: .45rem .8rem; position: relative; }
.flow li:not(:last-child)::after { color: var(--soft); content: "\\2192" / "";
  position: absolute; right: -1.3rem; top: 30%; }
h3 { font-size: .95rem; margin: .8rem 0 0; } h3 small { display: inline; font-weight: 400; }
.flow b { display: block; font-size: .9rem; overflow-wrap: anywhere; }
.flow .value { font-size: 1.15rem; font-weight: 650; }

details { border-top: 1px solid var(--line); padding: .55rem 0; } details:first-of-type { border-top: 0; }
summary { cursor: pointer; font-weight: 600; } summary span { font-weight: 400; }
details > * + * { margin-top: .6rem; }
dl.pairs { display: grid; gap: .3rem 1.2rem; grid-template-columns: minmax(0, max-content) minmax(50%, 1fr);
  margin: .6rem 0; }
dl.pairs dt { color: var(--soft); } dl.pairs dd { margin: 0; min-width: 0; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0 1rem;
  overflow-wrap: anywhere; padding: .8rem; white-space: pre-wrap;
  font: .85rem/1.5 ui-monospace, "Cascadia Mono", Menlo, monospace; }

@media (max-width: 760px) {
  body { overflow-wrap: anywhere; padding: 1.2rem .7rem 2rem; } section { padding: .9rem .8rem; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } .tile { padding: .6rem .7rem; }
  .tile .value { font-size: 1.35rem; }
  svg.wide { display: none; } svg.narrow { display: block; }
  table, tbody, tr, caption { display: block; } thead { clip-path: inset(50%); height: 1px; overflow: hidden;
    position: absolute; width: 1px; white-space: nowrap; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; } tbody tr:last-child { border-bottom: 0; }
  tbody th, td { border: 0; display: block; padding: .1rem 0; } tbody th { font-weight: 650; }
  td[data-label] { display: grid; gap: .6rem; grid-template-columns: 7.5rem minmax(0, 1fr); }
  td[data-label]::before { color: var(--soft); content: attr(data-label) / ""; font-size: .85rem; }
  td:empty { display: none; }
  .figure { display: flex; flex-wrap: wrap; gap: 0 .6rem; align-items: baseline; white-space: normal; }
  .figure .bar { flex-basis: 100%; order: 1; } td small { display: inline; }
  tbody th small { font-weight: 400; } .badge + small { margin-left: .6rem; }
  .layers td:last-child { width: auto; }
  dl.pairs { display: block; } dl.pairs dd { margin-bottom: .4rem; }
}
"""
