// What makes a price: each factor of the list price and of the technical premium, side by side.

import { byId, make } from "./elements.js";
import { MISSING, formatFactor, formatPercent, formatRate, formatTon, formatUsd, isNumber } from "./formats.js";
import { nameOf } from "./products.js";

const RAISED_TO = {
  min_executable_premium_ton: "the least premium that is sold",
  contract_min_rate: "the least rate at which the factory contract sells",
};
const FLOORS = {
  min_premium_absolute: "the least technical premium",
  min_premium_rate: "the least technical rate",
};
// Factors that are shown in their own way: [sign, name, how].
const SHOWN = {
  base_rate: ["", "Base rate of the coin", (value) => `${formatRate(value)} a year`],
  risk_adjustment: ["×", "Risk of the coin", (value) => (isNumber(value) ? `1 + ${formatFactor(value)}` : MISSING)],
  annual_rate: ["=", "Technical rate", (value) => `${formatRate(value)} a year`],
  duration_days: ["×", "Days that are charged", (value) => `${formatFactor(value)} / 365`],
};
const SUMS = ["annual_rate"];

export function showFactors(answer) {
  byId("list-factors").replaceChildren(...listRows(answer));
  byId("technical-factors").replaceChildren(...technicalRows(answer));
  byId("list-note").textContent = sayMinimum(answer);
  byId("technical-note").textContent = sayMarket(answer.technical);
}

function makeRow(sign, name, value, kind = "") {
  return make("tr", kind, make("td", "sign", sign), make("th", "", name), make("td", "num", value));
}

function listRows({ breakdown: parts = {}, premium_usd: premium, coverage_type: type, chain, stablecoin }) {
  return [
    makeRow("", `Base rate, ${nameOf(type).toLowerCase()}`, `${formatRate(parts.base_rate)} a year`),
    makeRow("×", `Multiplier of ${chain}`, formatFactor(parts.chain_multiplier)),
    makeRow("+", `Adjustment for ${stablecoin}`, `${formatRate(parts.stablecoin_adjustment)} a year`),
    makeRow("=", "Total rate", `${formatRate(parts.total_rate)} a year`, "sum"),
    makeRow("×", "Cover", formatUsd(parts.coverage_amount_usd ?? parts.coverage_amount)),
    makeRow("×", "Days of a year", `${formatFactor(parts.duration_days)} / 365`),
    makeRow("=", "Premium by the list", formatUsd(premium), "sum"),
  ];
}

function sayMinimum({ breakdown: parts = {}, premium_nanoton: premium, charged_usd: charged }) {
  if (!parts.minimum_applied) return "";
  const by = parts.list_premium_nanoton ? ` from ${formatTon(parts.list_premium_nanoton)} TON` : "";
  return `Raised${by} to ${formatTon(premium)} TON, ${formatUsd(charged)}: ${RAISED_TO[parts.minimum_applied] ?? parts.minimum_applied}.`;
}

function technicalRows({ technical }) {
  if (!technical) return [makeRow("", "It was not said.", MISSING)];
  const rows = Object.entries(technical.factors ?? {}).flatMap(([name, value]) => makeFactor(name, value));
  return [...rows, makeRow("=", "Technical premium", formatUsd(technical.premium_usd), "sum")];
}

// A factor that consists of others is followed by those: each its weight times how bad it is, 0 to 1.
function makeFactor(name, value) {
  if (value !== null && typeof value === "object") {
    return Object.entries(value).map(([part, { weight, factor }]) => makeRow("", sayName(part), `${formatFactor(weight)} × ${formatFactor(factor)}`, "part"));
  }
  const [sign, title, format] = SHOWN[name] ?? ["×", sayName(name), formatFactor];
  return [makeRow(sign, title, format(value), SUMS.includes(name) ? "sum" : "")];
}

function sayName(name) {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const sayRatio = (ratio) => (ratio < 10 ? `${formatPercent(ratio)} of` : `${formatFactor(Math.round(ratio))} times the`);

function sayMarket(technical) {
  const floor = technical?.floor_applied ? `Raised to ${FLOORS[technical.floor_applied] ?? technical.floor_applied}. ` : "";
  const market = technical?.market;
  if (!market) return floor;
  const losses = isNumber(market.loss_ratio) ? `claims ${sayRatio(market.loss_ratio)} premiums` : "no premiums earned yet";
  return `${floor}Market: ${formatPercent(market.utilization)} of the vault at risk, ${losses}, stress ${String(market.stress).toLowerCase()}.`;
}
