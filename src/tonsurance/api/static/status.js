// Whether what is on the page is live, and how old it is.

import { byId } from "./elements.js";
import { formatAge } from "./formats.js";

const WORDS = { connecting: "Connecting", live: "Live", waiting: "Waiting for data", stale: "Stale", reconnecting: "Reconnecting" };
const NOTICES = {
  waiting: "The ledger has no tranche yet. Figures appear here with the first deposits.",
  stale: "The ledger cannot be read right now. These are the last known figures.",
  reconnecting: "The connection to the server is lost. These are the last known figures; it is tried again and again.",
};
const known = { connection: "connecting", stale: true, heardAt: null, ageAtReceipt: 0 };

export function setConnection(connection) {
  known.connection = connection;
  showStatus();
}

export function hearFreshness(message, now) {
  known.stale = message.stale;
  known.ageAtReceipt = message.age_s ?? 0;
  known.heardAt = now;
  showStatus();
}

function stateOf() {
  if (known.connection !== "live") return known.connection;
  if (known.heardAt === null) return "waiting";
  return known.stale ? "stale" : "live";
}

function showStatus() {
  const state = stateOf();
  if (byId("state").dataset.state !== state) {
    byId("state").dataset.state = state;
    byId("state-text").textContent = WORDS[state];
  }
  byId("main").dataset.stale = String(state !== "live");
  const notice = NOTICES[state];
  byId("notice").hidden = !notice || (state === "reconnecting" && known.heardAt === null);
  byId("notice").textContent = notice ?? "";
  showAge();
}

export function showAge() {
  const age = known.heardAt === null ? null : (Date.now() - known.heardAt) / 1000 + known.ageAtReceipt;
  byId("age").textContent = formatAge(age);
}
