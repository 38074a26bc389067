// The live page: cards of six tranches and the list of events, from what the feed says and nothing else.

import {
  MISSING,
  drawCurve,
  drawSpark,
  formatAge,
  formatApy,
  formatPercent,
  formatSpan,
  formatTime,
  formatTon,
  shortHash,
} from "./draw.js";
import { Feed } from "./feed.js";

const TRANCHES = ["SURE-BTC", "SURE-SNR", "SURE-MEZZ", "SURE-JNR", "SURE-JNR+", "SURE-EQT"];
const RANKS = ["most senior", "senior", "mezzanine", "junior", "junior plus", "first loss"];
const LONGEST_WINDOW_MS = 5 * 60 * 1000;
const SHORTEST_WINDOW_MS = 20 * 1000;
const MAX_EVENTS = 14;

const KINDS = {
  DepositMade: ["Deposit", "amount"],
  WithdrawalRequested: ["Withdrawal requested", null],
  WithdrawalMade: ["Withdrawal", "amount"],
  PremiumsDistributed: ["Premium received", "premium_amount"],
  PremiumsEarned: ["Premium earned", "amount"],
  CoverageChanged: ["Cover changed", "parts"],
  Paused: ["Pause switched", null],
  FactorySet: ["Factory set", null],
  PolicyCreated: ["Policy bought", "coverage_amount"],
  PolicyRefused: ["Policy refused", null],
  PolicyExpired: ["Policy expired", null],
  PayoutRefused: ["Payout refused", null],
  QuoteKeySet: ["Quote key set", null],
};

const byId = (id) => document.getElementById(id);
const cards = new Map();
const curves = new Map();
const samples = new Map(TRANCHES.map((id) => [id, []]));
const shownEvents = new Set();
const status = { connection: "connecting", stale: true, heardAt: null, ageAtReceipt: 0 };

function makeCards() {
  TRANCHES.forEach((id, place) => {
    const card = byId("card").content.firstElementChild.cloneNode(true);
    card.dataset.tone = place + 1;
    card.dataset.tranche = id;
    const name = card.querySelector(".name");
    name.textContent = id;
    name.id = `tranche-${place + 1}`;
    card.setAttribute("aria-labelledby", name.id);
    card.querySelector(".rank").textContent = `${place + 1} of 6 · ${RANKS[place]}`;
    card.querySelector(".bar").setAttribute("aria-label", `Utilisation of ${id}`);
    card.querySelector(".mark").hidden = true;
    cards.set(id, card);
    byId("cards").append(card);
    drawSpark(card.querySelector(".spark"), [], 0, 1);
  });
}

function setTon(element, nano) {
  const text = formatTon(nano);
  element.textContent = text;
  if (text === MISSING) return;
  const unit = document.createElement("span");
  unit.className = "ton";
  unit.textContent = "TON";
  element.append(unit);
}

function levelOf(tranche) {
  if (tranche.insolvent) return ["insolvent", "Cover without capital"];
  if (tranche.utilization >= tranche.max_utilization) return ["full", "Full"];
  if (tranche.utilization >= tranche.high_utilization) return ["high", "High"];
  return ["normal", ""];
}

function showTranche(tranche) {
  const card = cards.get(tranche.tranche_id);
  if (!card) return;
  const find = (selector) => card.querySelector(selector);
  const moved = card.dataset.coverage !== undefined &&
    (card.dataset.coverage !== tranche.coverage_sold_nanoton || card.dataset.capital !== tranche.total_capital_nanoton);
  card.dataset.coverage = tranche.coverage_sold_nanoton;
  card.dataset.capital = tranche.total_capital_nanoton;
  const range = tranche.apy_range;
  find(".apy-value").textContent = formatApy(tranche.current_apy);
  find(".range-value").textContent = range.min === range.max ? `${range.min} % flat` : `${range.min} – ${range.max} %`;
  find(".use-value").textContent = formatPercent(tranche.utilization_raw);
  setTon(find(".tvl"), tranche.total_capital_nanoton);
  setTon(find(".covered"), tranche.coverage_sold_nanoton);
  setTon(find(".room"), tranche.available_capacity_nanoton);
  showBar(card, tranche);
  drawCurve(find(".curve"), curves.get(tranche.tranche_id), tranche);
  if (moved) flash(card);
}

function showBar(card, tranche) {
  const [level, warning] = levelOf(tranche);
  const percent = (tranche.utilization * 100).toFixed(1);
  const bar = card.querySelector(".bar");
  bar.setAttribute("aria-valuenow", percent);
  bar.setAttribute("aria-valuetext", `${percent} percent${warning ? `, ${warning.toLowerCase()}` : ""}`);
  card.querySelector(".fill").style.width = `${percent}%`;
  const mark = card.querySelector(".mark");
  mark.hidden = false;
  mark.style.left = `${tranche.max_utilization * 100}%`;
  card.querySelector(".mark-note").textContent = `limit ${formatPercent(tranche.max_utilization, 0)}`;
  card.dataset.level = level;
  card.querySelector(".warning").textContent = warning;
}

function flash(card) {
  card.classList.add("moved");
  setTimeout(() => card.classList.remove("moved"), 900);
}

function showTotals(message) {
  const sum = (field) => message.tranches.reduce((total, tranche) => total + BigInt(tranche[field]), 0n);
  const capital = sum("total_capital_nanoton");
  const coverage = sum("coverage_sold_nanoton");
  setTon(byId("sum-capital"), String(capital));
  setTon(byId("sum-coverage"), String(coverage));
  byId("sum-utilization").textContent = capital > 0n ? formatPercent(Number(coverage) / Number(capital)) : MISSING;
  byId("sum-asof").textContent = message.as_of.time ? `${formatTime(message.as_of.time)} UTC` : MISSING;
  byId("sum-asof").title = `Logical time ${message.as_of.lt}, ledger version ${message.ledger_version}`;
}

function remember(tranche, now) {
  const seen = samples.get(tranche.tranche_id);
  if (!seen || typeof tranche.utilization !== "number") return;
  seen.push([now, tranche.utilization]);
  // One sample before the window stays: the value the window starts with.
  while (seen.length > 1 && (seen[1][0] < now - LONGEST_WINDOW_MS || seen.length > 600)) seen.shift();
}

function drawSparks() {
  const now = Date.now();
  for (const [id, card] of cards) {
    const seen = samples.get(id);
    if (!seen.length) continue;
    const span = Math.min(LONGEST_WINDOW_MS, Math.max(SHORTEST_WINDOW_MS, now - seen[0][0]));
    drawSpark(card.querySelector(".spark"), seen, now - span, now);
    card.querySelector(".spark-span").textContent = formatSpan(span);
  }
}

function showTranches(message) {
  status.stale = message.stale;
  status.ageAtReceipt = message.age_s ?? 0;
  status.heardAt = Date.now();
  for (const tranche of message.tranches) {
    remember(tranche, status.heardAt);
    showTranche(tranche);
  }
  showTotals(message);
  drawSparks();
  showStatus();
}

function amountOf(event) {
  const field = KINDS[event.event_type]?.[1];
  const value = field ? event.fields[field] : undefined;
  if (!Array.isArray(value)) return { text: formatTon(value), nano: value };
  const sum = value.reduce((total, part) => total + BigInt(part), 0n);
  return { text: `${sum > 0n ? "+" : ""}${formatTon(String(sum))}`, nano: String(sum) };
}

function cell(className, text, title) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  if (title) element.title = title;
  return element;
}

function eventRow(event) {
  const row = document.createElement("li");
  row.className = "event";
  const where = cell("where", event.fields.tranche ? "" : MISSING);
  if (event.fields.tranche) {
    const chip = cell("chip", event.fields.tranche);
    chip.dataset.tone = TRANCHES.indexOf(event.fields.tranche) + 1;
    where.append(chip);
  } else if (event.fields.parts) {
    where.textContent = "all six";
  }
  const amount = amountOf(event);
  row.append(
    cell("kind", KINDS[event.event_type]?.[0] ?? event.event_type, event.event_type),
    where,
    cell("num amount", amount.text === MISSING ? MISSING : `${amount.text} TON`),
    cell("hash", shortHash(event.transaction_hash), `${event.transaction_hash} · lt ${event.lt}`),
    cell("num when", formatTime(event.block_time), "UTC"),
  );
  return row;
}

function addEvent(event, fresh) {
  if (shownEvents.has(event.event_id)) return;
  shownEvents.add(event.event_id);
  const row = eventRow(event);
  if (fresh) row.classList.add("fresh");
  const list = byId("events");
  list.prepend(row);
  while (list.children.length > MAX_EVENTS) list.lastElementChild.remove();
  if (shownEvents.size > 1000) shownEvents.delete(shownEvents.values().next().value);
  byId("no-events").hidden = true;
}

function hear(message) {
  if (message.type === "apy_update") showTranches(message);
  if (message.type === "state") message.events.forEach((event) => addEvent(event, false));
  if (message.type === "event") addEvent(message, true);
}

function setConnection(connection) {
  status.connection = connection;
  showStatus();
}

const WORDS = { connecting: "Connecting", live: "Live", waiting: "Waiting for data", stale: "Stale", reconnecting: "Reconnecting" };

function showStatus() {
  let state = status.connection;
  if (state === "live" && status.heardAt === null) state = "waiting";
  else if (state === "live" && status.stale) state = "stale";
  if (byId("state").dataset.state !== state) {
    byId("state").dataset.state = state;
    byId("state-text").textContent = WORDS[state];
  }
  byId("main").dataset.stale = String(state !== "live");
  const notice = byId("notice");
  notice.hidden = state !== "waiting" && state !== "stale";
  notice.textContent = state === "waiting"
    ? "The ledger has no tranche yet. Figures appear here with the first deposits."
    : "The ledger cannot be read right now. These are the last known figures.";
  showAge();
}

function showAge() {
  const age = status.heardAt === null ? null : (Date.now() - status.heardAt) / 1000 + status.ageAtReceipt;
  byId("age").textContent = formatAge(age);
}

// The curves do not change while the page is open; a card without its curve yet shows the point alone.
async function loadCurve(id, delay = 1000) {
  try {
    const answer = await fetch(`/api/v1/tranche/${encodeURIComponent(id)}/apy`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    curves.set(id, (await answer.json()).curve_points);
  } catch {
    setTimeout(() => loadCurve(id, Math.min(delay * 2, 15000)), delay);
  }
}

makeCards();
await Promise.all(TRANCHES.map((id) => loadCurve(id)));
const scheme = location.protocol === "https:" ? "wss:" : "ws:";
new Feed(`${scheme}//${location.host}/ws`, ["tranche_apy", "events"], hear, setConnection).open();
setInterval(showAge, 1000);
setInterval(drawSparks, 5000);
