// One model: who answers, how fast, where the time goes, and what can be done.

import { Chart } from "./chart.js";
import { comparison } from "./compare.js";
import { el, keyed, newId, say, set, show } from "./dom.js";
import * as format from "./format.js";
import * as parts from "./parts.js";
import { PLACEMENTS, actions, phase } from "./words.js";

const MOST_LINES = 4;
const LEAST_LATENCY_S = 0.001;
const TILES = [["P50"], ["P95"], ["P99"], ["requests"], ["errors"], ["waiting"]];

export class Card {
  // `act(action, model)` is called when a button is pressed.
  constructor(name, act) {
    this.name = name;
    this.chosen = null; // a version's name; null: the stable one
    this.model = null;
    const id = newId("model");

    this.badge = el("span", { class: "badge" });
    this.state = el("p", { class: "state" });
    this.why = el("p", { class: "why" });
    this.buttons = el("div", { class: "buttons", role: "group", "aria-label": `Act on ${name}` });
    this.drawButtons = keyed(this.buttons, (action) => this.button(action, act));

    this.split = parts.split({ name });
    this.slowest = new Chart("P99 by version", format.seconds, LEAST_LATENCY_S);
    this.compared = comparison(name, this.slowest);
    this.choice = el("fieldset", { class: "choice" }, el("legend", {}, "Details of version"));
    this.drawChoice = keyed(this.choice, (version) => this.option(version, id), this.choice.firstElementChild);
    this.tiles = parts.tiles(TILES);
    this.empty = el("p", { class: "empty" }, `No request in the last minute. What ${name} takes:`,
      el("code", {}, `curl ${location.origin}/v2/models/${name}`));
    this.latency = new Chart("Latency", format.seconds, LEAST_LATENCY_S);
    this.throughput = new Chart("Requests per second", format.rate, 1);
    this.charts = el("div", { class: "charts" }, this.latency.node, this.throughput.node);
    this.stages = parts.stages();
    this.queue = parts.queue();
    this.batches = parts.batches();
    this.tiers = parts.tiers();
    this.errors = parts.errors();
    this.report = el("a");
    this.noReport = el("span");
    this.reports = el("p", { class: "report" }, this.report, this.noReport);

    this.node = el("section", { class: "card", "aria-labelledby": id, id: `model-${name}` },
      el("header", {}, el("div", { class: "title" }, el("h2", { id }, name), this.badge, this.state), this.buttons),
      this.why,
      this.split.node,
      this.compared.node,
      this.choice,
      this.empty,
      this.tiles.node,
      this.charts,
      el("div", { class: "panels" }, this.stages.node,
        el("div", { class: "column" }, this.queue.node, this.errors.node),
        el("div", { class: "column" }, this.batches.node, this.tiers.node)),
      this.reports);
  }

  update(model, windowS) {
    this.model = model;
    this.windowS = windowS;
    const { versions } = model;
    const [word, meaning] = model.rollout
      ? phase(model.rollout, model.stable)
      : ["Stable", `version ${model.stable} answers, ${PLACEMENTS[model.placement] ?? model.placement}`];
    say(this.badge, word);
    set(this.badge, "class", model.rollout ? "badge moving" : "badge");
    say(this.state, meaning);
    say(this.why, model.rollout?.words ?? "");
    show(this.why, Boolean(model.rollout?.words));
    this.drawButtons(actions(model), (action) => action.key);
    this.split.update(versions);
    this.compared.update(versions);
    show(this.choice, versions.length > 1);
    if (this.shown === undefined) this.chosen = null;
    this.drawChoice(versions, (version) => version.version);
    this.drawDetails();
  }

  // The version that the lower part of the card is about.
  get shown() {
    return this.model.versions.find((version) => version.version === (this.chosen ?? this.model.stable));
  }

  drawDetails() {
    const version = this.shown ?? this.model.versions[0];
    if (version === undefined) return;
    const of = `${this.name}/${version.version}`;
    this.drawTiles(of, version);
    this.drawCharts(version);
    this.stages.update(of, version);
    this.queue.update(of, version);
    this.batches.update(of, version);
    this.tiers.update(of, version);
    this.errors.update(of, version, this.windowS);
    show(this.report, version.report);
    set(this.report, "href", `/dashboard/reports/${this.name}/${version.version}`);
    say(this.report, `Optimization report of version ${version.version}`);
    say(this.noReport, version.report ? "" : `Version ${version.version} has no optimization report.`);
  }

  drawTiles(of, version) {
    const { latency_s: latency } = version;
    show(this.empty, !latency && !version.requests_per_s);
    this.tiles.update([
      { name: `${of}/p50`, text: format.seconds(latency?.p50), note: "half are faster" },
      { name: `${of}/p95`, text: format.seconds(latency?.p95), note: "1 in 20 is slower" },
      { name: `${of}/p99`, text: format.seconds(latency?.p99), note: "1 in 100 is slower" },
      {
        name: `${of}/requests_per_s`,
        text: format.perSecond(version.requests_per_s),
        note: `${format.perSecond(version.rows_per_s)} rows`,
      },
      {
        name: `${of}/errors_per_s`,
        text: format.perSecond(version.errors_per_s),
        note: `last ${this.windowS} s`,
        isBad: version.errors_per_s > 0,
      },
      {
        name: `${of}/waiting_rows`,
        text: format.count(version.waiting_rows),
        note: version.waiting_rows ? `oldest ${format.seconds(version.oldest_s)}` : "nothing waits",
      },
    ]);
  }

  drawCharts(version) {
    const { time, versions: series } = this.model.series;
    const found = series[version.version];
    const lines = ["p50", "p95", "p99"].map((key) => ({
      key,
      label: key.toUpperCase(),
      style: key,
      values: found?.[key] ?? [],
    }));
    this.latency.update(time, found ? lines : []);
    const asked = this.model.versions.filter((entry) => series[entry.version]).slice(0, MOST_LINES);
    const byVersion = (figure) =>
      asked.map(({ version: name }, index) => ({
        key: name,
        label: `version ${name}`,
        style: `line-${index}`,
        values: series[name][figure],
      }));
    this.throughput.update(time, byVersion("requests_per_s"));
    this.slowest.update(time, byVersion("p99"));
    const isAsked = (entry) => series[entry.version].p99.some((value) => value !== null);
    show(this.charts, asked.some(isAsked));
  }

  button(action, act) {
    const node = el("button", { type: "button", "data-action": action.key });
    let latest = action;
    node.addEventListener("click", () => act(latest, this.name));
    const update = (now) => {
      latest = now;
      say(node, now.label);
      set(node, "aria-label", `${now.label}: ${this.name}`);
    };
    return { node, update };
  }

  option(version, id) {
    const input = el("input", { type: "radio", name: `${id}-version`, value: version.version });
    const text = el("span");
    input.addEventListener("change", () => {
      this.chosen = version.version;
      this.drawDetails();
    });
    const update = (now) => {
      say(text, `${now.version} (${now.role})`);
      input.checked = now.version === (this.chosen ?? this.model.stable);
    };
    return { node: el("label", {}, input, text), update };
  }
}
