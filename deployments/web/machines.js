// What is no model's own: processes and their machines, and what the caches hold.

import { el, keyed, say, set, show, tell } from "./dom.js";
import * as format from "./format.js";
import { meter } from "./parts.js";

const cell = (label) => el("td", { "data-label": label, role: "cell" });
const total = (gpus, value) => gpus.reduce((sum, gpu) => sum + value(gpu), 0);

// Rows of the table of processes.
export function processes(body) {
  const draw = keyed(body, (found) => {
    const name = el("th", { scope: "row", role: "rowheader" }, found.kind);
    const [model, node, cpu, memory, threads, gpu] = ["model", "node", "CPU cores", "memory", "threads", "GPU"].map(cell);
    const row = el("tr", { role: "row" }, name, model, node, cpu, memory, threads, gpu);
    const update = (now) => {
      say(model, now.model ? `${now.model} ${now.version}`.trim() : "");
      say(node, `${now.node}, process ${now.pid}`);
      tell(cpu, `${now.id}/cpu`, format.mean(now.cpu));
      tell(memory, `${now.id}/memory`, format.bytes(now.memory_bytes));
      tell(threads, `${now.id}/threads`, format.count(now.threads));
      say(gpu, now.gpus.map(gpuWords).join("; "));
    };
    return { node: row, update };
  });
  return (found) => draw(found, (entry) => `${entry.kind}/${entry.id}/${entry.pid}`);
}

const gpuWords = (gpu) =>
  `${gpu.index} ${gpu.name}: ${format.percent(gpu.utilization)} busy, ` +
  `${format.bytes(gpu.memory_bytes)} of ${format.bytes(gpu.memory_total_bytes)}`;

// What gateways and the shared cache remember.
export function caches(section) {
  const list = el("ul", { class: "lines" });
  section.append(list);
  const draw = keyed(list, ({ key, label }) => {
    const bar = meter();
    const [num, size] = [el("b"), el("span", { class: "figure" })];
    return {
      node: el("li", {}, el("span", {}, label), bar.node, num, size),
      update: (now) => {
        tell(num, `cache/${key}`, now.held);
        say(size, now.most ? `${format.bytes(now.bytes)} of ${format.bytes(now.most)}` : format.bytes(now.bytes));
        show(bar.node, now.most > 0);
        bar.update(now.most ? now.bytes / now.most : 0);
      },
    };
  });
  return (cache) => {
    const rows = [
      {
        key: "gateways",
        label: "gateways' memories",
        held: format.plural(cache.answers, "answer"),
        bytes: cache.bytes,
        most: cache.max_bytes,
      },
    ];
    if (cache.shared) {
      const { entries, bytes, max_bytes: most, policy } = cache.shared;
      const held = `${format.count(entries)} ${entries === 1 ? "entry" : "entries"}`;
      rows.push({ key: "shared", label: `shared cache (${policy})`, held, bytes, most });
    }
    draw(rows, (row) => row.key);
  };
}

// Errors of requests for what is not here, which no model's card tells.
export function strays(section, list) {
  const draw = keyed(list, ({ kind }) => {
    const num = el("b", { class: "bad" });
    return { node: el("li", {}, el("span", {}, kind), num), update: (now) => tell(num, `errors/${kind}`, format.count(now.count)) };
  });
  return (errors) => {
    const kinds = Object.entries(errors).map(([kind, number]) => ({ kind, count: number }));
    show(section, kinds.length > 0);
    draw(kinds, (entry) => entry.kind);
  };
}

export function problems(list) {
  const draw = keyed(list, () => {
    const node = el("li");
    return { node, update: ({ words }) => say(node, words) };
  });
  return (found) => {
    show(list, found.length > 0);
    draw(found.map((words) => ({ words })), ({ words }) => words);
  };
}

// Links to the models, where there are several.
export function contents(nav, list) {
  const draw = keyed(list, ({ name }) => {
    const asked = el("span");
    return {
      node: el("li", {}, el("a", { href: `#model-${name}` }, name, asked)),
      update: (now) => say(asked, format.perSecond(total(now.versions, (version) => version.requests_per_s))),
    };
  });
  return (models) => {
    show(nav, models.length > 1);
    draw(models, (model) => model.name);
  };
}

// The totals at the top of the page.
export function summary(list) {
  const part = (name) => list.querySelector(`[data-part=${name}]`);
  const [gateways, requests, errors, waiting] = ["gateways", "requests", "errors", "waiting"].map(part);
  return ({ gateways: heard, models }) => {
    const sum = (value) => total(models, (model) => total(model.versions, value));
    const errorsPerS = sum((version) => version.errors_per_s);
    tell(gateways, "gateways", format.count(heard));
    tell(requests, "total/requests_per_s", format.perSecond(sum((version) => version.requests_per_s)));
    tell(errors, "total/errors_per_s", format.perSecond(errorsPerS));
    set(errors, "class", errorsPerS > 0 ? "bad" : "");
    tell(waiting, "total/waiting", format.count(sum((version) => version.waiting_rows)));
  };
}
