// How many policies there are in each status. Asked for when one changed, but not more often than every few seconds.

import { byId } from "./elements.js";
import { MISSING } from "./formats.js";
import { readJson } from "./reads.js";

const STATUSES = ["active", "approved", "claimed", "expired"];
const PAUSE_MS = 3000;
let state = "idle"; // idle, busy, or again: something changed while busy

function show(counts, trouble) {
  for (const status of STATUSES) {
    const count = counts?.[status];
    byId(`policies-${status}`).textContent = Number.isInteger(count) ? count.toLocaleString("en") : MISSING;
  }
  byId("policies").title = trouble ?? "";
  byId("policies").dataset.stale = String(Boolean(trouble));
}

export async function loadCounts() {
  if (state !== "idle") {
    state = "again";
    return;
  }
  state = "busy";
  try {
    show(await readJson("/api/v2/policies/counts", {}));
  } catch (error) {
    state = "again";
    show(null, `The counts cannot be read. ${error.message}`);
  }
  setTimeout(() => {
    const again = state === "again";
    state = "idle";
    if (again) loadCounts();
  }, PAUSE_MS);
}
