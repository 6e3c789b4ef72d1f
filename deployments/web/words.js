// What things are called on the page.

import { percent } from "./format.js";

export const STAGES = {
  wire: "reading, sending, on the way",
  decode: "bytes to tensors",
  cache: "choosing, checking, looking up",
  queue: "waiting for the engine",
  pad: "into a batch and out of it",
  engine: "the model itself",
  encode: "tensors to bytes",
};

export const TIERS = {
  miss: ["computed", "nothing was remembered"],
  memory: ["memory", "of the gateway"],
  redis: ["shared cache", "another gateway had put it there"],
  flight: ["together", "with one and the same request"],
  off: ["not remembered", "the model or the request has it so"],
};

export const PLACEMENTS = {
  inline: "in the gateways",
  replicas: "on replicas of its own",
  pipeline: "models one after the other",
};

// Of the phase of a rollout or a test: a word, and what it means for callers.
export function phase(rollout, stable) {
  const { kind, phase: name, candidate, step_percent: step } = rollout;
  if (kind === "test") {
    return name === "loading"
      ? ["Test is starting", "its versions are being loaded"]
      : ["Test", "several versions answer side by side"];
  }
  const paused = rollout.state === "paused" ? "Paused, " : "";
  switch (name) {
    case "loading":
      return [`${paused}Loading`, `version ${candidate} starts; version ${stable} answers`];
    case "shadow":
      return [`${paused}Shadow`, `version ${candidate} gets copies of requests; version ${stable} answers`];
    case "soak":
      return [`${paused}Soak`, `version ${candidate} answers; version ${stable} stays ready`];
    default:
      return [`${paused}Canary`, `version ${candidate} gets ${percent(step / 100)} of the requests`];
  }
}

export function actions(model) {
  const purge = {
    key: "purge",
    label: "Purge cache",
    title: `Purge the cache of ${model.name}?`,
    told: "No gateway will remember an answer of this model any more. The next requests are computed.",
    path: "cache",
    body: { action: "purge" },
    done: (found) =>
      found.forgotten === null
        ? `${model.name}: every gateway has forgotten its answers.`
        : `${model.name}: ${found.forgotten} answers forgotten in the shared cache, and all in the gateways.`,
  };
  if (model.placement === "pipeline") return [purge];
  const state = (found) => `${model.name}: version ${found.stable} is the stable one.`;
  const { rollout } = model;
  if (rollout === null) {
    const back = {
      key: "rollback",
      label: "Roll back",
      title: `Roll ${model.name} back?`,
      told: `Version ${model.former}, which was the stable one before, is started, and then answers all requests.`,
      path: "rollout",
      body: { action: "rollback", why: "rolled back on the live page" },
      done: (found) => `${model.name}: version ${found.rollout.candidate} is taking over.`,
    };
    return model.former === null ? [purge] : [back, purge];
  }
  if (rollout.kind === "test") {
    const end = {
      key: "end",
      label: "End the test",
      title: `End the test of ${model.name}?`,
      told: `Version ${model.stable} answers all requests from then on.`,
      path: "rollout",
      body: { action: "end", why: "ended on the live page" },
      done: state,
    };
    return [end, purge];
  }
  const promote = {
    key: "promote",
    label: `Promote version ${rollout.candidate}`,
    title: `Promote version ${rollout.candidate} of ${model.name}?`,
    told:
      rollout.phase === "soak"
        ? `The rollout ends: version ${rollout.candidate} is the stable one from now on.`
        : `Version ${rollout.candidate} gets all requests at once, without the steps that are left. The guards go on.`,
    path: "rollout",
    body: { action: "promote", why: "promoted on the live page" },
    done: (found) =>
      found.rollout === null
        ? state(found)
        : `${model.name}: version ${found.rollout.candidate} gets all requests now.`,
  };
  const back = {
    key: "rollback",
    label: "Roll back",
    title: `Roll ${model.name} back to version ${model.stable}?`,
    told: `Version ${rollout.candidate} gets no more requests; version ${model.stable} answers all of them.`,
    path: "rollout",
    body: { action: "rollback", why: "rolled back on the live page" },
    done: (found) => `${model.name}: rolled back. Version ${found.stable} answers all requests.`,
  };
  return [promote, back, purge];
}
