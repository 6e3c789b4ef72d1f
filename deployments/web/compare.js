// Versions beside each other while more than one answers, each with its difference from the stable one.

import { el, keyed, say, set, show, tell } from "./dom.js";
import * as format from "./format.js";
import { caption } from "./parts.js";

const NOISE = 0.05; // of the stable version's figure: what is nearer is not called better or worse

const slower = { more: "slower", less: "faster", isMoreBad: true };
const stageMean = (version, name) => version.stages.find((stage) => stage.stage === name)?.mean ?? null;

const ROWS = [
  ["share", "share of requests", (version) => version.share, format.percent],
  ["requests_per_s", "requests", (version) => version.requests_per_s, format.perSecond],
  ["p50", "P50", (version) => version.latency_s?.p50, format.seconds, slower],
  ["p95", "P95", (version) => version.latency_s?.p95, format.seconds, slower],
  ["p99", "P99", (version) => version.latency_s?.p99, format.seconds, slower],
  ["engine", "engine, mean", (version) => stageMean(version, "engine"), format.seconds, slower],
  ["errors_per_s", "errors", (version) => version.errors_per_s, format.perSecond],
  ["accuracy", "answers that were right", (version) => version.accuracy?.right, format.percent],
  ["drift", "answers that differ", (version) => share(version.drift), format.percent],
].map(([key, label, value, write, compared]) => ({ key, label, value, write, compared }));

const share = (drift) => (drift && drift.compared ? drift.differing / drift.compared : null);

function cellOf(model, row) {
  const value = el("b");
  const delta = el("small");
  const node = el("td", {}, value, delta);
  const update = ({ version, stable }) => {
    const [now, reference] = [row.value(version), row.value(stable)];
    tell(value, `${model}/${version.version}/compared/${row.key}`, row.write(now));
    const told = row.compared && version !== stable ? format.difference(now, reference) : "";
    const change = told ? now / reference - 1 : 0;
    const isMore = change > 0;
    const isFar = Math.abs(change) > NOISE;
    const word = told && told !== "same" ? ` ${isMore ? row.compared?.more : row.compared?.less}` : "";
    say(delta, told + word);
    set(delta, "class", isFar ? (isMore === row.compared.isMoreBad ? "delta worse" : "delta better") : "delta");
  };
  return { node, update };
}

// `chart` stands next to the table.
export function comparison(model, chart) {
  const corner = el("th", { scope: "col" }, el("span", { class: "unseen" }, "figure"));
  const top = el("tr", {}, corner);
  const drawTop = keyed(
    top,
    () => {
      const [name, role] = [el("span"), el("small")];
      return {
        node: el("th", { scope: "col" }, name, role),
        update: ({ version }) => {
          say(name, `version ${version.version}`);
          say(role, version.role);
        },
      };
    },
    corner,
  );
  const body = el("tbody");
  const drawRows = keyed(body, (row) => {
    const name = el("th", { scope: "row" }, row.label);
    const node = el("tr", {}, name);
    const draw = keyed(node, () => cellOf(model, row), name);
    return { node, update: ({ columns }) => draw(columns, ({ version }) => version.version) };
  });
  const table = el("table", { class: "compare" }, caption(`Versions of ${model} beside each other`),
    el("thead", {}, top), body);
  const title = el("h3", { class: "unseen" }, "Versions beside each other");
  const node = el("div", { class: "beside" }, title, el("div", { class: "sides" }, table, chart.node));
  const update = (versions) => {
    show(node, versions.length > 1);
    if (versions.length < 2) return;
    const columns = versions.map((version) => ({ version, stable: versions[0] }));
    drawTop(columns, ({ version }) => version.version);
    const rows = ROWS.filter((row) => versions.some((version) => typeof row.value(version) === "number"));
    drawRows(rows.map((row) => ({ ...row, columns })), (row) => row.key);
  };
  return { node, update };
}
