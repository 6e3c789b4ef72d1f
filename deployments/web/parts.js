// What a model's card is made of. Each part is {node, update(...)}.

import { el, keyed, say, set, show, tell } from "./dom.js";
import * as format from "./format.js";
import { STAGES, TIERS } from "./words.js";

export function panel(title, ...children) {
  return el("div", { class: "panel" }, el("h3", {}, title), ...children);
}

export function grow(node, share) {
  const told = String(share);
  if (node.style.flexGrow !== told) node.style.flexGrow = told;
}

function widen(node, share) {
  const told = `${(Math.min(1, Math.max(0, share)) * 100).toFixed(1)}%`;
  if (node.style.width !== told) node.style.width = told;
}

// A bar of parts beside each other; the numbers stand below it, so it is only to look at.
function stacked() {
  const node = el("div", { class: "stack", "aria-hidden": "true" });
  const draw = keyed(node, (item) => {
    const part = el("i", { class: item.style });
    return { node: part, update: (now) => grow(part, now.value) };
  });
  return { node, update: (items) => draw(items.filter((item) => item.value > 0), (item) => item.key) };
}

export function meter(value) {
  const fill = el("i");
  const node = el("span", { class: "meter", "aria-hidden": "true" }, fill);
  return { node, update: (share) => widen(fill, share ?? value ?? 0) };
}

export function tiles(names) {
  const values = names.map(([label]) => [el("dt", {}, label), el("dd", { class: "value" }), el("dd", { class: "note" })]);
  const node = el("dl", { class: "tiles" }, ...values.map((parts) => el("div", { class: "tile" }, ...parts)));
  const update = (told) =>
    told.forEach(({ name, text, note = "", isBad = false }, index) => {
      const [, value, small] = values[index];
      tell(value, name, text);
      value.classList.toggle("bad", isBad);
      say(small, note);
    });
  return { node, update };
}

// Who answers: shares of the requests by version.
export function split(model) {
  const bar = el("div", { class: "stack tall", "aria-hidden": "true" });
  const legend = el("ul", { class: "keys" });
  const drawBar = keyed(bar, () => {
    const text = el("span");
    const part = el("i", {}, text);
    return {
      node: part,
      update: (version) => {
        set(part, "class", `role-${version.role}`);
        grow(part, version.share);
        say(text, version.share >= 0.12 ? `${version.version} · ${format.percent(version.share)}` : "");
      },
    };
  });
  const drawLegend = keyed(legend, () => {
    const dot = el("i", { class: "swatch", "aria-hidden": "true" });
    const name = el("span");
    const share = el("b");
    return {
      node: el("li", {}, dot, name, share),
      update: (version) => {
        set(dot, "class", `swatch role-${version.role}`);
        say(name, `version ${version.version}, ${version.role}`);
        tell(share, `${model.name}/${version.version}/share`, format.percent(version.share));
      },
    };
  });
  const node = el("div", { class: "split" }, el("h3", { class: "unseen" }, "Who answers"), bar, legend);
  const update = (versions) => {
    drawBar(versions.filter((version) => version.share > 0), (version) => version.version);
    drawLegend(versions, (version) => version.version);
  };
  return { node, update };
}

// Where a request's time goes, on average.
export function stages() {
  const bar = stacked();
  const rows = el("tbody");
  const draw = keyed(rows, ({ stage }) => {
    const [mean, share, p95, p99] = [el("td"), el("td"), el("td", { class: "wide" }), el("td")];
    const name = el("th", { scope: "row" }, el("i", { class: `swatch stage-${stage}`, "aria-hidden": "true" }),
      stage, el("small", {}, STAGES[stage] ?? ""));
    return {
      node: el("tr", {}, name, mean, share, p95, p99),
      update: (now) => {
        tell(mean, `${now.of}/${stage}/mean`, format.seconds(now.mean));
        say(share, format.percent(now.share));
        tell(p95, `${now.of}/${stage}/p95`, format.seconds(now.p95));
        tell(p99, `${now.of}/${stage}/p99`, format.seconds(now.p99));
      },
    };
  });
  const none = el("p", { class: "none" }, "Nothing was answered in this time.");
  const table = el("table", {}, caption("Time by stage"),
    head("stage", "mean", "share", ["P95", "wide"], "P99"), rows);
  const node = panel("Where the time goes", bar.node, table, none);
  const update = (of, version) => {
    const total = version.stages.reduce((sum, stage) => sum + (stage.mean ?? 0), 0);
    const told = version.stages.map((stage) => ({ ...stage, of, share: total ? (stage.mean ?? 0) / total : null }));
    show(none, total === 0);
    show(table, total > 0);
    show(bar.node, total > 0);
    bar.update(told.map(({ stage, share }) => ({ key: stage, value: share ?? 0, style: `stage-${stage}` })));
    draw(told, (stage) => stage.stage);
  };
  return { node, update };
}

// How full batches are, by group of shapes.
export function batches() {
  const rows = el("tbody");
  const draw = keyed(rows, ({ group }) => {
    const [fill, mean, engine, wait] = [el("span"), el("td"), el("td"), el("td", { class: "wide" })];
    const bar = meter();
    const num = el("small");
    const name = el("th", { scope: "row" }, el("span", {}, group || "all shapes"), num);
    return {
      node: el("tr", {}, name, el("td", { class: "filled" }, bar.node, fill), mean, engine, wait),
      update: (now) => {
        bar.update(now.fill);
        say(num, `${format.count(now.batches)} ${now.batches === 1 ? "batch" : "batches"}`);
        tell(fill, `${now.of}/${group}/fill`, format.percent(now.fill));
        tell(mean, `${now.of}/${group}/rows`, format.mean(now.rows));
        tell(engine, `${now.of}/${group}/engine`, format.seconds(now.engine_s));
        tell(wait, `${now.of}/${group}/wait`, format.seconds(now.wait_s));
      },
    };
  });
  const none = el("p", { class: "none" }, "No batch has run in this time.");
  const table = el("table", {}, caption("Batches by group of shapes, means"),
    head("shapes", "fill", "rows", "engine", ["waited", "wide"]), rows);
  const update = (of, version) => {
    show(none, version.batches.length === 0);
    show(table, version.batches.length > 0);
    draw(version.batches.map((batch) => ({ ...batch, of })), (batch) => batch.group);
  };
  return { node: panel("Batches by shape", table, none), update };
}

// Where answers came from.
export function tiers() {
  const bar = stacked();
  const legend = el("ul", { class: "lines" });
  const draw = keyed(legend, ({ tier }) => {
    const [label, meaning] = TIERS[tier] ?? [tier, ""];
    const [share, num] = [el("b"), el("span", { class: "figure" })];
    return {
      node: el("li", {}, el("i", { class: `swatch tier-${tier}`, "aria-hidden": "true" }),
        el("span", {}, label, el("small", {}, meaning)), num, share),
      update: (now) => {
        tell(num, `${now.of}/tier/${tier}`, format.count(now.value));
        say(share, format.percent(now.share));
      },
    };
  });
  const saved = el("b");
  const note = el("p", { class: "note" }, saved, " of engine time saved by what was remembered");
  const none = el("p", { class: "none" }, "Nothing was answered in this time.");
  const update = (of, version) => {
    const known = Object.keys(TIERS).filter((tier) => version.tiers[tier]);
    const total = known.reduce((sum, tier) => sum + version.tiers[tier], 0);
    const told = known.map((tier) => ({ of, tier, value: version.tiers[tier], share: version.tiers[tier] / total }));
    show(none, total === 0);
    show(bar.node, total > 0);
    bar.update(told.map((entry) => ({ key: entry.tier, value: entry.share, style: `tier-${entry.tier}` })));
    draw(told, (entry) => entry.tier);
    show(note, version.saved_s > 0);
    tell(saved, `${of}/saved`, format.seconds(version.saved_s));
  };
  return { node: panel("Answers by tier of the cache", bar.node, legend, none, note), update };
}

export function errors() {
  const list = el("ul", { class: "lines" });
  const draw = keyed(list, ({ kind }) => {
    const num = el("b", { class: "bad" });
    return {
      node: el("li", {}, el("span", {}, kind), num),
      update: (now) => tell(num, `${now.of}/errors/${kind}`, format.count(now.count)),
    };
  });
  const none = el("p", { class: "none good" });
  const update = (of, version, windowS) => {
    const kinds = Object.entries(version.errors).filter(([, number]) => number > 0);
    say(none, `No errors in the last ${windowS} s.`);
    show(none, kinds.length === 0);
    draw(kinds.sort().map(([kind, number]) => ({ of, kind, count: number })), (entry) => entry.kind);
  };
  return { node: panel("Errors by kind", list, none), update };
}

// What waits, and who is there to do it.
export function queue() {
  const [rows, oldest, replicas] = [el("b"), el("b"), el("b")];
  const bar = meter();
  const list = el("ul", { class: "lines" },
    el("li", {}, el("span", {}, "rows that wait"), rows),
    el("li", {}, el("span", {}, "the oldest waits for"), oldest),
    el("li", {}, el("span", {}, "replicas"), bar.node, replicas));
  const update = (of, version) => {
    tell(rows, `${of}/waiting`, format.count(version.waiting_rows));
    tell(oldest, `${of}/oldest`, version.waiting_rows ? format.seconds(version.oldest_s) : "nothing waits");
    const there = version.replicas;
    show(bar.node, there !== null);
    tell(replicas, `${of}/replicas`, there ? `${there.running} of ${there.wanted} run` : "runs in the gateways");
    if (there) bar.update(there.wanted ? there.running / there.wanted : 0);
  };
  return { node: panel("Queue and replicas", list), update };
}

export const caption = (text) => el("caption", { class: "unseen" }, text);

export function head(...names) {
  const cells = names.map((name) => (Array.isArray(name) ? name : [name, null]));
  return el("thead", {}, el("tr", {}, ...cells.map(([name, style]) => el("th", { scope: "col", class: style }, name))));
}
