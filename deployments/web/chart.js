// Lines over the last minutes. The cursor follows the pointer, a finger or the arrow keys; the same numbers are
// there as a table.

import { el, keyed, newId, say, set, svg } from "./dom.js";
import { clock, minute, short } from "./format.js";

const HEIGHT = 168;
const LEFT = 56;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const SPANS_S = [180, 600]; // a server that has just started is not to have an empty chart
const LABELS = 5; // of time, about
const ROWS_S = 30; // between rows of the table

const ONCE = () => undefined;

function stepOf(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.9999) * power;
}

export class Chart {
  // `format` writes a value; `least` is the least top of the scale, so that little looks little.
  constructor(title, format, least) {
    this.format = format;
    this.least = least;
    this.width = 0;
    this.cursor = null; // Unix seconds; null: the latest
    this.time = [];
    this.lines = [];

    this.span = SPANS_S[0];
    this.over = el("span", { class: "at" });
    this.at = el("span", { class: "at latest" });
    this.legend = el("ul", { class: "legend" });
    this.drawLegend = keyed(this.legend, (line) => this.entry(line));

    this.grid = svg("g", { class: "grid" });
    this.drawGrid = keyed(this.grid, () => {
      const line = svg("line");
      const label = svg("text", { "text-anchor": "end", dy: "0.32em" });
      return { node: svg("g", {}, line, label), update: (tick) => this.level(line, label, tick) };
    });
    this.times = svg("g", { class: "times" });
    this.drawTimes = keyed(this.times, () => {
      const label = svg("text", { "text-anchor": "middle", y: HEIGHT - 6 });
      return {
        node: label,
        update: (at) => {
          set(label, "x", this.x(at).toFixed(1));
          say(label, minute(at));
        },
      };
    });
    this.paths = svg("g", { class: "lines" });
    this.drawPaths = keyed(this.paths, (line) => {
      const path = svg("path", { class: `line ${line.style}` });
      return { node: path, update: (now) => set(path, "d", this.path(now.values)) };
    });
    this.rule = svg("line", { class: "rule", y1: TOP, y2: HEIGHT - BOTTOM });
    this.dots = svg("g", { class: "dots" });
    this.drawDots = keyed(this.dots, (line) => {
      const dot = svg("circle", { class: line.style, r: 3.5 });
      return { node: dot, update: (now) => this.dot(dot, now) };
    });
    this.drawing = svg(
      "svg",
      { "aria-hidden": "true", height: HEIGHT, width: "100%" },
      this.grid, this.times, this.paths, this.rule, this.dots,
    );
    this.range = el("input", { type: "range", min: 0, step: 1, "aria-label": `${title}: point in time` });
    this.range.addEventListener("input", () => this.moveTo(Number(this.range.value)));
    this.plot = el("div", { class: "plot" }, this.drawing, this.range);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.moveTo(this.time.length - 1));

    this.rows = el("tbody");
    const time = el("th", { scope: "col" }, "time");
    this.head = el("tr", {}, time);
    this.drawHead = keyed(
      this.head, (line) => ({ node: el("th", { scope: "col" }, line.label), update: ONCE }), time,
    );
    this.drawRows = keyed(this.rows, (row) => this.row(row));
    this.table = el("details", { class: "table" }, el("summary", {}, "The same as a table"),
      el("table", {}, el("caption", { class: "unseen" }, title), el("thead", {}, this.head), this.rows));
    this.table.addEventListener("toggle", () => this.drawTable());

    const id = newId("chart");
    this.node = el("figure", { class: "chart", "aria-labelledby": id },
      el("figcaption", {}, el("h4", { id }, title), this.over, this.at), this.legend, this.plot, this.table);
    new ResizeObserver(([entry]) => this.resize(entry.contentRect.width)).observe(this.plot);
  }

  // `lines`: [{key, label, style, values}], each value null where there is none.
  update(time, lines) {
    this.time = time;
    this.lines = lines;
    this.draw();
  }

  resize(width) {
    if (Math.abs(width - this.width) < 0.5) return;
    this.width = width;
    this.draw();
  }

  draw() {
    if (!this.width || !this.time.length) return;
    let most = this.least;
    for (const line of this.lines) for (const value of line.values) if (value > most) most = value;
    const step = stepOf(most);
    this.top = Math.ceil(most / step - 1e-9) * step;
    this.until = this.time[this.time.length - 1];
    this.span = SPANS_S.find((span) => span >= this.oldest) ?? SPANS_S[SPANS_S.length - 1];
    say(this.over, `last ${this.span / 60} minutes`);
    const levels = [];
    for (let index = 0; index * step <= this.top * 1.0001; index += 1) levels.push({ index, value: index * step });
    this.drawGrid(levels, (level) => level.index);
    const marks = [];
    const minutes = Math.ceil(this.span / 60 / LABELS) * 60;
    const first = Math.ceil((this.until - this.span) / minutes) * minutes;
    for (let at = first; at <= this.until; at += minutes) if (this.x(at) < this.width - 16) marks.push(at);
    this.drawTimes(marks, (at) => at);
    this.drawPaths(this.lines, (line) => line.key + line.style);
    this.drawTable();
    this.drawCursor();
  }

  // How many seconds ago the first value was.
  get oldest() {
    const found = this.time.find((_, index) => this.lines.some((line) => line.values[index] > 0));
    return found === undefined ? 0 : this.until - found;
  }

  x(at) {
    return LEFT + (this.width - LEFT - RIGHT) * (1 - (this.until - at) / this.span);
  }

  y(value) {
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / this.top);
  }

  level(line, label, { value }) {
    const y = this.y(value).toFixed(1);
    set(line, "x1", String(LEFT));
    set(line, "x2", String(this.width - RIGHT));
    set(line, "y1", y);
    set(line, "y2", y);
    set(label, "x", String(LEFT - 8));
    set(label, "y", y);
    say(label, short(this.format(value)));
  }

  path(values) {
    let path = "";
    let isOpen = false;
    values.forEach((value, index) => {
      const at = this.time[index];
      if (value === null || at < this.until - this.span) {
        isOpen = false;
        return;
      }
      const point = `${this.x(at).toFixed(1)} ${this.y(value).toFixed(1)}`;
      path += isOpen ? `L${point}` : `M${point}h.01`; // one alone is a dot
      isOpen = true;
    });
    return path;
  }

  get index() {
    if (this.cursor === null) return this.time.length - 1;
    const found = this.time.findIndex((at) => at >= this.cursor);
    return found < 0 ? this.time.length - 1 : found;
  }

  moveTo(index) {
    this.cursor = index >= this.time.length - 1 ? null : this.time[index];
    this.drawCursor();
  }

  point(event) {
    if (!this.width || !this.time.length) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const at = this.until - this.span * (1 - (x - LEFT) / (this.width - LEFT - RIGHT));
    let nearest = 0;
    this.time.forEach((time, index) => {
      if (Math.abs(time - at) < Math.abs(this.time[nearest] - at)) nearest = index;
    });
    this.moveTo(nearest);
  }

  drawCursor() {
    if (!this.width || !this.time.length) return;
    const index = this.index;
    const isLatest = this.cursor === null;
    const at = this.time[index];
    say(this.at, isLatest ? "latest" : `at ${clock(at)}`);
    this.drawLegend(this.lines, (line) => line.key + line.style);
    this.drawDots(this.lines, (line) => line.key + line.style);
    set(this.rule, "visibility", isLatest ? "hidden" : "visible");
    set(this.rule, "x1", this.x(at).toFixed(1));
    set(this.rule, "x2", this.x(at).toFixed(1));
    set(this.range, "max", String(this.time.length - 1));
    if (this.range.value !== String(index)) this.range.value = String(index);
    const told = this.lines.map((line) => `${line.label} ${this.format(line.values[index])}`).join(", ");
    set(this.range, "aria-valuetext", `${clock(at)}: ${told}`);
  }

  dot(dot, line) {
    const value = line.values[this.index];
    const at = this.time[this.index];
    const isThere = this.cursor !== null && typeof value === "number" && at >= this.until - this.span;
    set(dot, "visibility", isThere ? "visible" : "hidden");
    if (!isThere) return;
    set(dot, "cx", this.x(at).toFixed(1));
    set(dot, "cy", this.y(value).toFixed(1));
  }

  entry(line) {
    const value = el("b");
    const sample = svg("svg", { "aria-hidden": "true", width: 24, height: 8 },
      svg("path", { class: `line ${line.style}`, d: "M1 4H23" }));
    return {
      node: el("li", {}, sample, el("span", {}, line.label), value),
      update: (now) => say(value, this.format(now.values[this.index])),
    };
  }

  drawTable() {
    if (!this.table.open) return;
    this.drawHead(this.lines, (line) => line.key + line.style);
    const rows = [];
    for (let index = this.time.length - 1; index >= 0; index -= 1) {
      const at = this.time[index];
      const isFirst = Math.floor(at / ROWS_S) !== Math.floor(this.time[index - 1] / ROWS_S);
      if (isFirst) rows.push({ at });
    }
    this.drawRows(rows, (row) => row.at);
  }

  row({ at }) {
    const name = el("th", { scope: "row" }, clock(at));
    const node = el("tr", {}, name);
    const make = () => {
      const cell = el("td");
      return { node: cell, update: (line) => say(cell, this.format(line.values[this.time.indexOf(at)])) };
    };
    const cells = keyed(node, make, name);
    return { node, update: () => cells(this.lines, (line) => line.key + line.style) };
  }
}
