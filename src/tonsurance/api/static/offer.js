// A price as it is shown: both currencies, what makes it, the room for it, and how long it holds.

import { byId, setTon } from "./elements.js";
import { showFactors } from "./factors.js";
import { formatAge, formatTime, formatTon, formatTonPrice, formatUsd, formatWait, isNumber, toSeconds } from "./formats.js";
import { sayReason, titleOf } from "./products.js";

const SAME_CLOCK_S = 60;
const NOTICE = "The cover is a number of TON. Its value in US dollars moves with the price of TON.";
const LIMITS = {
  max_utilization: "the share of its capital a tranche may have at risk",
  min_collateralization: "the least collateral behind all cover",
  max_policy_percent: "the largest part of the vault one policy may have",
  product_cap: "the largest part of the vault one product may have",
  chain_cap: "the largest part of the vault one chain may have",
  reservation_share: "the part of the vault that reservations may hold",
};
export function sayLimit(name, tranche) {
  if (!name) return "a limit that was not named";
  return `${LIMITS[name] ?? "the limit"} (${name}${tranche ? ` of ${tranche}` : ""})`;
}

// Why this price cannot be bought at; null when it can.
export function findObstacle(answer) {
  if (answer.on_sale?.on_sale === false) {
    return `${titleOf(answer)} is not sold right now: ${(answer.on_sale.reasons ?? []).map(sayReason).join("; ") || "no reason was given"}. Choose another product, or come back later.`;
  }
  const room = answer.capacity;
  if (room?.sufficient === false) {
    return `There is no room for ${formatTon(answer.coverage_nanoton)} TON of cover: ${sayLimit(room.binding_limit, room.binding_tranche)} leaves ` +
      `${formatTon(room.available_nanoton)} TON. Choose a smaller amount.`;
  }
  return null;
}

const isRaised = (answer) => Boolean(answer.breakdown?.minimum_applied);

// What is paid, in dollars: the list's price, or what it was raised to.
export const chargedUsd = (answer) => (isRaised(answer) ? answer.charged_usd : answer.premium_usd);

// What somebody should know of the price beside it; empty when it is the list's.
export function sayRaised(answer) {
  return isRaised(answer) ? `The least premium applies: by the list it would be ${formatUsd(answer.premium_usd)}.` : "";
}

const sayStale = (answer) => (answer.stale ? "The chain was not read lately: room and terms may have changed. " : "");

export function showOffer({ answer }) {
  byId("premium-usd").textContent = formatUsd(chargedUsd(answer));
  byId("premium-note").textContent = sayRaised(answer);
  setTon(byId("premium-ton"), answer.premium_nanoton);
  setTon(byId("offer-cover"), answer.coverage_nanoton);
  byId("offer-cover-note").textContent = sayStart(answer);
  const price = answer.ton_price ?? {};
  byId("offer-rate").textContent = formatTonPrice(price.usd);
  byId("offer-rate-note").textContent = `${price.source ?? "source unknown"}, seen ${formatTime(price.observed_at)} UTC, ${formatAge(price.age_s)}`;
  const room = answer.capacity ?? {};
  setTon(byId("offer-room"), room.available_nanoton);
  byId("offer-room-note").textContent = room.binding_limit ? `bound by ${sayLimit(room.binding_limit, room.binding_tranche)}` : "";
  byId("offer-notice").textContent = sayStale(answer) + (answer.notice ?? NOTICE);
  showFactors(answer);
  byId("offer-body").hidden = byId("factors").hidden = false;
}

export function hideOffer() {
  byId("offer-body").hidden = byId("factors").hidden = true;
}

function sayStart({ cover_starts_after_s: wait, breakdown }) {
  const days = breakdown?.duration_days;
  const lasts = isNumber(days) ? `for ${days} ${days === 1 ? "day" : "days"}` : "";
  return isNumber(wait) ? `${lasts}, from ${formatWait(wait)} after the purchase` : lasts;
}

// Seconds it still holds; null when our clock cannot tell: that of a local chain may run faster.
export function secondsLeft({ answer, heardAt }) {
  const [until, asked, held] = [toSeconds(answer.valid_until), toSeconds(answer.timestamp), answer.valid_for_s];
  const same = until !== null && asked !== null && Math.abs(until - asked - held) < SAME_CLOCK_S;
  return same ? held - (Date.now() - heardAt) / 1000 : null;
}

export function showTimeLeft({ answer }, left) {
  const validity = byId("offer-validity");
  validity.textContent = left !== null && left <= 0 ? "expired" : `valid for ${formatWait(left ?? answer.valid_for_s)}`;
  validity.dataset.expired = String(left !== null && left <= 0);
  byId("offer-until").textContent = left === null
    ? "by this chain’s own clock; it is quoted anew when you buy"
    : `until ${formatTime(answer.valid_until)} UTC`;
}
