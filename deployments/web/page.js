// The live page: each event of the stream is a whole document of figures, and the page becomes what it says.

import { Actions } from "./actions.js";
import { Card } from "./card.js";
import { keyed, say, set, show } from "./dom.js";
import { clock, count } from "./format.js";
import { caches, contents, problems, processes, strays, summary } from "./machines.js";
import { SILENT_S, Stream } from "./stream.js";

const find = (id) => document.getElementById(id);

const actions = new Actions(find("confirm"), find("outcome"));
const drawModels = keyed(find("models"), (model) => {
  const card = new Card(model.name, (action, name) => actions.ask(action, name));
  return { node: card.node, update: (now) => card.update(now, windowS) };
});
const drawSummary = summary(find("summary"));
const drawContents = contents(find("contents"), find("contents-list"));
const drawProblems = problems(find("problems"));
const drawCaches = caches(find("caches"));
const drawStrays = strays(find("strays"), find("strays-list"));
const drawProcesses = processes(find("processes"));

let windowS = 60;

function draw(figures) {
  windowS = figures.window_s;
  drawSummary(figures);
  drawContents(figures.models);
  drawProblems(figures.problems);
  drawModels(figures.models, (model) => model.name);
  drawCaches(figures.cache);
  drawStrays(figures.errors);
  drawProcesses(figures.processes);
  say(find("version"), `Headrace ${figures.version}`);
  say(find("clock"), clock(figures.now));
  set(find("clock"), "datetime", new Date(figures.now * 1000).toISOString());
  show(find("waiting"), false);
  show(find("shown"), true);
  document.body.dataset.now = String(figures.now);
}

const stream = new Stream("/dashboard/events", draw, (words) => drawProblems([words]), () => watch());

// The page says how it stands: seconds count where they can be seen, and only changes are read out.
function watch() {
  const silent = stream.silentSeconds;
  const state = !stream.hasHeard && silent < SILENT_S ? "connecting" : silent < SILENT_S ? "live" : "lost";
  const words = {
    connecting: "connecting",
    live: "live",
    lost: `no news for ${count(Math.floor(silent))} s`,
  };
  say(find("state"), words[state]);
  if (document.body.dataset.state === state) return;
  document.body.dataset.state = state;
  say(find("news"), { connecting: "", live: "The page is live.", lost: "The figures are out of date." }[state]);
}

setInterval(watch, 1000);
watch();
stream.open();
