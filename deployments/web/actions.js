// Acting takes the admin token. It stays in the field it was typed into and is gone with the page: sessionStorage
// would hand it to whatever else this origin shows in the tab.

import { say, show } from "./dom.js";

export class Actions {
  constructor(dialog, outcome) {
    const find = (name) => dialog.querySelector(`[data-part=${name}]`);
    this.dialog = dialog;
    this.title = find("title");
    this.told = find("told");
    this.token = find("token");
    this.problem = find("problem");
    this.confirm = find("confirm");
    this.outcome = outcome;
    this.outcomeText = outcome.querySelector("p");
    this.dismiss = outcome.querySelector("button");
    this.asked = null;
    find("cancel").addEventListener("click", () => dialog.close());
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.dismiss.addEventListener("click", () => this.report(""));
  }

  ask(action, model) {
    this.asked = { action, model };
    say(this.title, action.title);
    say(this.told, action.told);
    say(this.problem, "");
    say(this.confirm, action.label);
    this.confirm.disabled = false;
    this.dialog.showModal();
    (this.token.value ? this.confirm : this.token).focus();
  }

  async send() {
    const asked = this.asked;
    const { action, model } = asked;
    this.confirm.disabled = true;
    say(this.problem, "");
    const told = await request(`/v2/admin/models/${encodeURIComponent(model)}/${action.path}`, this.token.value, action);
    if (this.asked !== asked || !this.dialog.open) {
      this.report(`${action.title}: ${told.problem ?? told.done}`); // whoever asked has gone on meanwhile
      return;
    }
    this.confirm.disabled = false;
    if (told.problem) {
      say(this.problem, told.problem);
      this.token.focus();
      return;
    }
    this.dialog.close();
    this.report(told.done);
  }

  report(text) {
    say(this.outcomeText, text);
    show(this.dismiss, text !== "");
    this.outcome.classList.toggle("shown", text !== "");
  }
}

async function request(address, token, action) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token.trim()}`;
  try {
    const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(action.body) });
    const found = await answer.json();
    return answer.ok ? { done: action.done(found) } : { problem: `${found.error} (${answer.status})` };
  } catch (error) {
    return { problem: `The server could not be asked: ${error.message}` };
  }
}
