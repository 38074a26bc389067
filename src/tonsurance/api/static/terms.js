// What somebody asks a price for, how it is asked, and what is said when there is none.

import { byId } from "./elements.js";
import { sayLimit } from "./offer.js";
import { postJson } from "./reads.js";

const OUTAGES = [null, 429, 500, 502, 503, 504];
const AGAIN = "It is tried again every few seconds.";
const ADVICE = {
  price_unavailable: `Nothing is sold without a price of TON that is new enough. ${AGAIN}`,
  invalid_product: "Choose another chain or kind of cover.",
  not_on_sale: "Choose another product, or come back later.",
  invalid_address: "Give the address as your wallet shows it.",
};

// Whether the same question may be answered a little later.
export const isOutage = (error) => OUTAGES.includes(error.status ?? null);

// The amount and the days as they are written in the form. Raises an Error that says how to write them.
export function readTerms() {
  const amount = byId("amount").value.trim().replace(/^\d{1,3}(,\d{3})+(?=\.|$)/, (all) => all.replaceAll(",", ""));
  const days = byId("days").value.trim();
  const good = { amount: /^\d{1,12}(\.\d{1,6})?$/.test(amount), days: /^\d{1,4}$/.test(days) };
  for (const id of ["amount", "days"]) byId(id).setAttribute("aria-invalid", String(!good[id]));
  if (!good.amount) throw new Error("Write the amount in US dollars, like 10,000 or 2500.50.");
  if (!good.days) throw new Error("Write the days as a whole number.");
  return { amount, days };
}

// One question; with a buyer the answer has a transaction to sign.
export function askPrice({ amount, days, ...product }, buyer, signal) {
  const body = { ...product, coverage_amount: Number(amount), duration_days: Number(days), ...(buyer ? { buyer } : {}) };
  return postJson("/api/v2/quote/multi-dimensional", body, { signal });
}

// What went wrong, and what to do next.
export function sayError(error, { again = true } = {}) {
  const limit = error.body?.binding_limit;
  const room = limit ? `What binds is ${sayLimit(limit, error.body.binding_tranche)}. Choose a smaller amount.` : "";
  const advice = ADVICE[error.code] ?? (isOutage(error) ? AGAIN : "");
  return [error.message, room, again ? advice : advice.replace(AGAIN, "Try again in a moment.")].filter(Boolean).join(" ");
}
