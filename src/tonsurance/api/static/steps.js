// The steps of a purchase as they are shown: what is done, what is waited for, and where it stopped.

import { byId, make } from "./elements.js";

const STEPS = { quote: "Quote", send: "Signature", chain: "Chain", vault: "Vault" };

// Where a purchase stops, said to the buyer.
export class Stopped extends Error {
  constructor(step, content) {
    super();
    this.step = step;
    this.content = content;
  }
}

export function stopAt(step, ...content) {
  throw new Stopped(step, content);
}

export function resetSteps() {
  byId("steps").replaceChildren(...Object.entries(STEPS).map(([name, title]) => {
    const row = make("li", "step", make("span", "mark-of-step"), make("span", "step-title", title), make("span", "step-word", ""));
    row.dataset.step = name;
    row.dataset.state = "waiting";
    return row;
  }));
  byId("purchase").hidden = false;
}

const stepOf = (name) => byId("steps").querySelector(`[data-step="${name}"]`);

// `state` is now, done, unsure or bad. What is said already is not said again: somebody may be listening.
export function showStep(name, state, ...content) {
  const row = stepOf(name);
  const word = make("span", "step-word", ...content);
  row.dataset.state = state;
  const said = row.querySelector(".step-word");
  if (said.textContent !== word.textContent) said.replaceWith(word);
}

// What was waited for turned out to have happened; a step that is done keeps its own words.
export function settleStep(name, text) {
  if (stepOf(name).dataset.state !== "done") showStep(name, "done", text);
}

// The step that is under way.
export const stepUnderWay = () => byId("steps").querySelector('[data-state="now"]')?.dataset.step ?? "quote";
