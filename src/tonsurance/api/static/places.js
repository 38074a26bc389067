// What can be linked to: a place is { tranche, figure }, { tx }, { policy } or { events }, and lives in the address.
// A cover to buy can be linked to as well; it is no place of the panel but a choice in the form: see choiceOf.

import { FIGURES, TRANCHES } from "./catalog.js";

const ALL = "all";
const QUOTE = "quote=";

const VALID = {
  tranche: (value) => value === ALL || TRANCHES.includes(value),
  tx: (value) => /^[0-9a-f]{64}$/.test(value),
  policy: (value) => /^\d{1,20}$/.test(value),
  events: (value) => /^[A-Za-z]{1,40}$/.test(value),
};

export function linkTo(place) {
  // A plus sign may stand in a fragment as it is: #tranche=SURE-JNR+ is what a person would type.
  return `#${Object.entries(place).filter(([, value]) => value).map(([key, value]) => `${key}=${value}`).join("&")}`;
}

// The place a fragment names; null when it names none, { wrong } when it is malformed.
export function placeOf(fragment) {
  const text = fragment.replace(/^#/, "");
  if (!text || text.startsWith(QUOTE)) return null;
  const given = Object.fromEntries(text.split("&").map((pair) => pair.split(/=(.*)/, 2)));
  const kind = Object.keys(VALID).find((key) => key in given);
  if (!kind) return { wrong: text };
  const value = decode(given[kind] ?? "");
  const place = { [kind]: kind === "tx" ? value.toLowerCase() : value };
  if (!VALID[kind](place[kind])) return { wrong: text };
  if (kind === "tranche" && given.figure in FIGURES) place.figure = given.figure;
  return place;
}

// #quote=depeg/Ethereum/USDC/10000/90 as the choice it names; null when the fragment is of something else.
export function choiceOf(fragment) {
  const text = decode(fragment.replace(/^#/, ""));
  if (!text.startsWith(QUOTE)) return null;
  const [coverage_type, chain, stablecoin, amount, days] = text.slice(QUOTE.length).split("/");
  return { coverage_type, chain, stablecoin, amount, days };
}

export function linkToChoice({ coverage_type, chain, stablecoin, amount, days }) {
  return `#${QUOTE}${[coverage_type, chain, stablecoin, amount, days].map(encodeURIComponent).join("/")}`;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
