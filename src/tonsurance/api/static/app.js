// The live page: what the feed says goes to the part that shows it. Figures come from the feed, the past from REST.

import { showEvent, showGap } from "./activity.js";
import { ALERTS_CHANNEL, hearAlert } from "./alerts.js";
import { drawSparks, flashLoss, loadCurve, makeCards, showTranche } from "./cards.js";
import { TRANCHES } from "./catalog.js";
import { CLAIM_EVENTS, ClaimBook, countDown, showClaims } from "./claims.js";
import { ChainClock } from "./clock.js";
import { byId, setTon } from "./elements.js";
import { Feed } from "./feed.js";
import { MISSING, formatPercent, formatTime, sumNano } from "./formats.js";
import { watchAddress } from "./panel.js";
import { loadCounts } from "./policies.js";
import { linkTo } from "./places.js";
import { allowPurchase, openPurchases } from "./purchase.js";
import { onOfferChange, showValidity } from "./quote.js";
import { readJson } from "./reads.js";
import { openShop } from "./shop.js";
import { hearFreshness, setConnection, showAge } from "./status.js";

const FIELDS = {
  capital: "total_capital_nanoton",
  cover: "coverage_sold_nanoton",
  losses: "absorbed_losses_nanoton",
  unearned: "unearned_premiums_nanoton",
};
const CLAIMS_PER_TYPE = 50;
const book = new ClaimBook();
const clock = new ChainClock();
let latest = [];
let readingClaims = false;

// A figure as it was said last: of one tranche, or of all together.
function figureOf({ tranche, figure }) {
  const meant = latest.filter((one) => tranche === "all" || one.tranche_id === tranche);
  return meant.length ? sumNano(meant.map((one) => one[FIELDS[figure]])) : null;
}

function showTotals(message) {
  const sum = (figure) => figureOf({ tranche: "all", figure });
  const [capital, coverage] = [sum("capital"), sum("cover")];
  setTon(byId("sum-capital"), capital);
  setTon(byId("sum-coverage"), coverage);
  setTon(byId("sum-losses"), sum("losses"));
  byId("sum-utilization").textContent = Number(capital) > 0 ? formatPercent(Number(coverage) / Number(capital)) : MISSING;
  byId("sum-asof").textContent = message.as_of.time ? `${formatTime(message.as_of.time)} UTC` : MISSING;
  byId("sum-asof").title = `Logical time ${message.as_of.lt}, ledger version ${message.ledger_version}`;
}

function showTranches(message) {
  const now = Date.now();
  latest = message.tranches;
  if (!message.stale) clock.hear(Date.parse(message.as_of.time) / 1000, now);
  for (const tranche of message.tranches) showTranche(tranche, now);
  showTotals(message);
  drawSparks();
  hearFreshness(message, now);
}

function hearEvent(event, fresh) {
  if (!showEvent(event, fresh)) return;
  byId("sum-asof").href = linkTo({ tx: event.transaction_hash });
  if (fresh && event.event_type === "LossAbsorbed") flashLoss(event.fields);
  if (fresh && event.event_type.startsWith("P")) loadCounts();
  if (book.add(event)) showClaims(book, clock);
}

function hear(message) {
  if (message.channel === ALERTS_CHANNEL) return hearAlert(message, latest[0]?.vault_id ?? "main");
  if (message.type === "apy_update") showTranches(message);
  if (message.type === "event") hearEvent(message, true);
  if (message.type === "gap") showGap(message);
  if (message.type === "state") message.events.forEach((event) => hearEvent(event, false));
  if (message.type === "gap" || message.type === "state") loadClaims();
}

// What happened to claims before this page was opened, or while it was not told.
async function loadClaims() {
  if (readingClaims) return;
  readingClaims = true;
  for (let delay = 1000; readingClaims; delay = Math.min(delay * 2, 15000)) {
    try {
      await readClaims();
      byId("claims-trouble").hidden = true;
      readingClaims = false;
    } catch (error) {
      byId("claims-trouble").hidden = false;
      byId("claims-trouble").textContent = `Earlier claims cannot be shown yet. ${error.message} It is tried again.`;
      await new Promise((done) => setTimeout(done, delay));
    }
  }
}

async function readClaims() {
  const pages = await Promise.all(
    CLAIM_EVENTS.map((type) => readJson("/api/v2/events", { type, order: "desc", limit: CLAIMS_PER_TYPE })),
  );
  pages.flatMap((page) => page.events).forEach((event) => book.add(event));
  showClaims(book, clock);
}

makeCards();
watchAddress(figureOf);
onOfferChange(allowPurchase);
openShop();
openPurchases();
loadCounts();
await Promise.all(TRANCHES.map((id) => loadCurve(id)));
const scheme = location.protocol === "https:" ? "wss:" : "ws:";
new Feed(`${scheme}//${location.host}/ws`, ["tranche_apy", "events", ALERTS_CHANNEL], hear, setConnection).open();
setInterval(() => {
  showAge();
  countDown(book, clock);
  showValidity();
}, 1000);
setInterval(drawSparks, 5000);
