// Claims by policy: what the events say about each, whatever order they come in, and the panel that shows them.

import { byId, make, makeHashLink, makePolicyLink, setTon } from "./elements.js";
import { formatTime, formatTon, formatWait } from "./formats.js";
import { OP_RELEASE_COVERAGE } from "./words.js";

// Type of event: what it makes of a claim.
const STEPS = {
  PayoutApproved: "approved",
  ClaimDeferred: "deferred",
  ClaimCancelled: "cancelled",
  PayoutCancelled: "cancelled",
  PayoutRefused: "refused",
  PayoutExecuted: "paid",
};
export const CLAIM_EVENTS = [...Object.keys(STEPS), "ShortfallReported"];
const MAX_CLAIMS = 200;
const SHOWN = 8;
const OPEN = ["deferred", "approved"];

function isOfClaim(event) {
  if (event.event_type === "PayoutRefused") return Number(event.fields.op) !== OP_RELEASE_COVERAGE;
  return CLAIM_EVENTS.includes(event.event_type);
}

// Logical time orders the transactions of both contracts as they caused one another.
function happenedBefore(a, b) {
  const [left, right] = [BigInt(a.lt), BigInt(b.lt)];
  if (left === right) return a.message_index - b.message_index;
  return left < right ? -1 : 1;
}

export class ClaimBook {
  #events = new Map();

  // False when the event says nothing new about a claim.
  add(event) {
    if (!isOfClaim(event)) return false;
    const policy = event.fields.policy_id;
    const known = this.#events.get(policy) ?? new Map();
    if (known.has(event.event_id)) return false;
    known.set(event.event_id, event);
    this.#events.set(policy, known);
    this.#forgetOldest();
    return true;
  }

  // Claims the vault has yet to pay first, the one due soonest on top; then the others, newest first.
  claims() {
    const all = [...this.#events].map(([policy, events]) => readClaim(policy, [...events.values()]));
    return all.filter((claim) => claim.state).sort((a, b) => {
      const [left, right] = [OPEN.indexOf(a.state), OPEN.indexOf(b.state)];
      if (left !== right) return left < 0 ? 1 : right < 0 ? -1 : left - right;
      if (a.state === "deferred" && a.dueAt !== b.dueAt) return a.dueAt - b.dueAt;
      return happenedBefore(b.last, a.last);
    });
  }

  #forgetOldest() {
    if (this.#events.size <= MAX_CLAIMS) return;
    const settled = this.claims().filter((claim) => !OPEN.includes(claim.state)).at(-1);
    this.#events.delete(settled?.policy ?? this.#events.keys().next().value);
  }
}

function readClaim(policy, events) {
  const claim = { policy, state: null, amount: null, shortfall: null, dueAt: null, last: null };
  for (const event of events.sort(happenedBefore)) {
    if (event.event_type === "ShortfallReported") {
      claim.shortfall = event.fields.amount;
      continue;
    }
    claim.state = STEPS[event.event_type];
    claim.amount = event.fields.amount ?? claim.amount;
    claim.dueAt = event.event_type === "ClaimDeferred" ? Number(event.fields.due_at) : null;
    claim.last = event;
  }
  return claim;
}

const WORDS = {
  approved: () => "the vault was asked to pay",
  cancelled: () => "taken back; the policy is active again",
  refused: () => "the vault refused; the policy is active as before",
  paid: (claim) => (claim.shortfall ? `${formatTon(claim.shortfall)} TON more could not be borne` : "the policy has ended"),
};

function sayDue(claim, now) {
  if (now === null) return `due ${formatTime(claim.dueAt)}`;
  return claim.dueAt > now ? `due in ${formatWait(claim.dueAt - now)}` : "due: anyone may have it paid now";
}

function makeRow(claim) {
  const row = make("li", "claim");
  const amount = make("span", "num amount");
  setTon(amount, claim.amount);
  const word = make("span", "word", WORDS[claim.state]?.(claim) ?? "");
  row.append(
    makePolicyLink(claim.policy), make("span", "badge", claim.state), amount, word,
    makeHashLink(claim.last.transaction_hash), make("span", "num when", formatTime(claim.last.block_time)),
  );
  row.dataset.state = claim.state;
  row.dataset.policy = claim.policy;
  if (claim.dueAt) row.title = `Held back by the breaker until ${formatTime(claim.dueAt)} UTC`;
  return row;
}

// Keeps the rows that did not change, so that a link somebody is on stays where it is.
const rows = new Map();

export function showClaims(book, clock) {
  const claims = book.claims();
  const shown = claims.slice(0, SHOWN);
  const wanted = shown.map((claim) => {
    const mark = [claim.policy, claim.last.event_id, claim.amount, claim.shortfall].join("/");
    const row = rows.get(mark) ?? makeRow(claim);
    rows.set(mark, row);
    return [mark, row];
  });
  const marks = new Set(wanted.map(([mark]) => mark));
  for (const [mark, row] of rows) {
    if (marks.has(mark)) continue;
    row.remove();
    rows.delete(mark);
  }
  const list = byId("claims");
  wanted.forEach(([, row], index) => list.children[index] !== row && list.insertBefore(row, list.children[index] ?? null));
  byId("no-claims").hidden = claims.length > 0;
  const open = claims.filter((claim) => OPEN.includes(claim.state)).length;
  byId("claims-open").textContent = open ? `${open} open` : "";
  countDown(book, clock);
}

export function countDown(book, clock) {
  const now = clock.now();
  for (const claim of book.claims().slice(0, SHOWN)) {
    if (claim.state !== "deferred") continue;
    const word = byId("claims").querySelector(`[data-policy="${CSS.escape(claim.policy)}"] .word`);
    if (word) word.textContent = sayDue(claim, now);
  }
}
