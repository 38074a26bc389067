// The six cards: what each tranche is now, its curve, where its utilisation comes from, and a word when it loses.

import { FIGURES, RANKS, TRANCHES } from "./catalog.js";
import { drawCurve, drawSpark } from "./draw.js";
import { byId, setTon } from "./elements.js";
import { formatApy, formatPercent, formatSpan, formatTon } from "./formats.js";
import { linkTo } from "./places.js";
import { readJson } from "./reads.js";

const LONGEST_WINDOW_MS = 5 * 60 * 1000;
const SHORTEST_WINDOW_MS = 20 * 1000;
const MAX_SAMPLES = 600;
const FLASH_MS = 900;
const LOSS_SHOWN_MS = 6000;

const cards = new Map();
const curves = new Map();
const samples = new Map(TRANCHES.map((id) => [id, []]));
const lossTimers = new Map();

export function makeCards() {
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
    linkFigures(card, id);
    cards.set(id, card);
    byId("cards").append(card);
    drawSpark(card.querySelector(".spark"), [], 0, 1);
  });
}

// Every figure leads to the ledger entries it is made of: what follows from several figures to all of them.
function linkFigures(card, tranche) {
  for (const link of card.querySelectorAll("a[data-figure]")) {
    const figure = link.dataset.figure;
    link.href = linkTo({ tranche, figure });
    link.title = figure ? `The ledger entries that make this tranche’s ${FIGURES[figure][0]}` : "The ledger entries it follows from";
  }
}

function levelOf(tranche) {
  if (tranche.insolvent) return ["insolvent", "Cover without capital"];
  if (tranche.utilization >= tranche.max_utilization) return ["full", "Full"];
  if (tranche.utilization >= tranche.high_utilization) return ["high", "High"];
  return ["normal", ""];
}

export function showTranche(tranche, now) {
  const card = cards.get(tranche.tranche_id);
  if (!card) return;
  remember(tranche, now);
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
  setTon(find(".lost"), tranche.absorbed_losses_nanoton);
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
  setTimeout(() => card.classList.remove("moved"), FLASH_MS);
}

// A loss is said in the card it hits, and to who cannot see it.
export function flashLoss({ tranche, loss_amount: amount, policy_id: policy }) {
  const card = cards.get(tranche);
  if (!card) return;
  const note = card.querySelector(".loss-note");
  note.textContent = `−${formatTon(amount)} TON · policy ${policy}`;
  note.href = linkTo({ policy });
  card.classList.remove("hit");
  void card.offsetWidth; // starts the animation anew when one loss follows another
  card.classList.add("hit");
  byId("announce").textContent = `${tranche} lost ${formatTon(amount)} TON to policy ${policy}.`;
  clearTimeout(lossTimers.get(tranche));
  lossTimers.set(tranche, setTimeout(() => card.classList.remove("hit"), LOSS_SHOWN_MS));
}

function remember(tranche, now) {
  const seen = samples.get(tranche.tranche_id);
  if (typeof tranche.utilization !== "number") return;
  seen.push([now, tranche.utilization]);
  // One sample before the window stays: the value the window starts with.
  while (seen.length > 1 && (seen[1][0] < now - LONGEST_WINDOW_MS || seen.length > MAX_SAMPLES)) seen.shift();
}

export function drawSparks() {
  const now = Date.now();
  for (const [id, card] of cards) {
    const seen = samples.get(id);
    if (!seen.length) continue;
    const span = Math.min(LONGEST_WINDOW_MS, Math.max(SHORTEST_WINDOW_MS, now - seen[0][0]));
    drawSpark(card.querySelector(".spark"), seen, now - span, now);
    card.querySelector(".spark-span").textContent = formatSpan(span);
  }
}

// The curves do not change while the page is open; a card without its curve yet shows the point alone.
export async function loadCurve(id, delay = 1000) {
  try {
    curves.set(id, (await readJson(`/api/v1/tranche/${encodeURIComponent(id)}/apy`, {})).curve_points);
  } catch {
    setTimeout(() => loadCurve(id, Math.min(delay * 2, 15000)), delay);
  }
}
