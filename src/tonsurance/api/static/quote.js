// The price of what is chosen: it follows as somebody types, and only the answer to the newest question counts.

import { byId } from "./elements.js";
import { formatTon, formatUsd } from "./formats.js";
import { chargedUsd, findObstacle, hideOffer, sayRaised, secondsLeft, showOffer, showTimeLeft } from "./offer.js";
import { linkToChoice } from "./places.js";
import { Choices } from "./products.js";
import { askPrice, isOutage, readTerms, sayError } from "./terms.js";

const DEBOUNCE_MS = 250;
const RETRY_MS = 5000;
const RENEW_MS = 5000;
const UNTOLD_MS = 15000;
const MOST_RENEWALS = 60; // of an expired price, until somebody does something

let onOffer = () => {};
let timer = null;
let asking = null; // AbortController of the newest question while it has no answer
let offer = null; // { terms, answer, heardAt }
let renewals = 0;
export const choices = new Choices(() => changed());

// `hear` is told whenever it changes whether there is a price to buy at.
export const onOfferChange = (hear) => {
  onOffer = hear;
};

// The price of what is chosen; null while there is none.
export const currentOffer = () => (byId("offer").dataset.old === "true" ? null : offer);

// --- asking

export function changed(delay = DEBOUNCE_MS) {
  renewals = 0;
  markOld();
  plan(delay);
}

// What is shown is not of what is chosen now, or not of now.
function markOld() {
  byId("offer").dataset.old = "true";
  onOffer();
}

// An answer that is on its way is of no use any more.
function plan(delay) {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
  timer = setTimeout(ask, delay);
}

const sayInvalid = (product) => `There is no such cover: ${product?.reason ?? "it is not offered"}. Choose another chain or kind of cover.`;

async function ask() {
  const mine = new AbortController();
  asking = mine;
  byId("offer").setAttribute("aria-busy", "true");
  try {
    const terms = { ...choices.chosen(), ...readTerms() };
    byId("ask-link").href = linkToChoice(terms);
    if (!choices.product()?.valid) return abandon(sayInvalid(choices.product()));
    const answer = await askPrice(terms, null, mine.signal);
    if (mine === asking) take(terms, answer);
  } catch (error) {
    if (mine === asking) refuse(error);
  } finally {
    if (mine === asking) asking = null;
    byId("offer").setAttribute("aria-busy", String(asking !== null));
  }
}

// Shows an answer as the price that holds now.
export function take(terms, answer) {
  const obstacle = findObstacle(answer);
  offer = { terms, answer, heardAt: Date.now(), sold: obstacle === null };
  byId("offer").dataset.old = "false";
  showOffer(offer);
  showValidity();
  say(obstacle ?? `Premium ${formatUsd(chargedUsd(answer))}, paid as ${formatTon(answer.premium_nanoton)} TON. ${sayRaised(answer)}`.trim(), obstacle !== null);
  onOffer();
}

// What cannot be asked is ours to say; an outage is asked again.
function refuse(error) {
  abandon(error.status === undefined ? error.message : sayError(error));
  if (error.status !== undefined && isOutage(error)) {
    clearTimeout(timer);
    timer = setTimeout(ask, RETRY_MS);
  }
}

// No price is better than an old one.
export function abandon(text) {
  offer = null;
  hideOffer();
  say(text, true);
  onOffer();
}

export function say(text, bad = false) {
  if (byId("offer-word").textContent !== text) byId("offer-word").textContent = text;
  byId("offer-word").dataset.bad = String(bad);
  byId("offer-word").classList.toggle("unseen", offer !== null && !bad); // the figures say it to who sees them
}

// --- how long it holds

// Called every second. A price that expired, or whose end our clock cannot tell, is renewed while somebody may be
// looking, but not without end.
export function showValidity() {
  if (offer === null) return;
  const left = secondsLeft(offer);
  showTimeLeft(offer, left);
  const age = Date.now() - offer.heardAt;
  const over = left === null ? age > UNTOLD_MS : left <= 0;
  const tired = renewals >= MOST_RENEWALS;
  byId("offer-again").hidden = !(over && tired);
  if (!over || asking !== null || document.hidden || currentOffer() === null) return;
  if (tired) {
    markOld();
    say("This price has expired. Ask for the present one.", true);
  } else if (age > RENEW_MS) {
    renewals += 1;
    plan(0);
  }
}
