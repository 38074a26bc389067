// How numbers, times and hashes are written. What is missing or malformed is written as missing, never as zero.

export const MISSING = "—";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const rates = new Intl.NumberFormat("en", { maximumFractionDigits: 6 });
const dollars = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
export const isNano = (value) => typeof value === "string" && /^-?\d+$/.test(value);

export function formatPercent(ratio, digits = 1) {
  return isNumber(ratio) ? `${(ratio * 100).toFixed(digits)} %` : MISSING;
}

export function formatApy(percent) {
  return isNumber(percent) ? percent.toFixed(2) : MISSING;
}

// nanoTON (a string of digits) as TON; large amounts lose their fraction, very large ones are shortened.
export function formatTon(nano) {
  if (!isNano(nano)) return MISSING;
  const ton = Number(nano) / 1e9;
  const size = Math.abs(ton);
  if (size >= 1e6) return short.format(ton);
  if (size > 0 && size < 0.005) return fine.format(ton);
  return size >= 10000 ? whole.format(ton) : cents.format(ton);
}

const isDecimal = (value) => isNumber(value) || (typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value));

// US dollars to the cent; the price of one TON with more decimals.
export const formatUsd = (value) => (isDecimal(value) ? `${cents.format(Number(value))} USD` : MISSING);
export const formatTonPrice = (value) => (isDecimal(value) ? `${dollars.format(Number(value))} USD` : MISSING);

// A factor or a rate as it was said, without needless digits; a rate per year is a ratio and shown in percent.
export const formatFactor = (value) => (isDecimal(value) ? rates.format(Number(value)) : MISSING);
export const formatRate = (value) => (isDecimal(value) ? `${rates.format(Number(value) * 100)} %` : MISSING);

export function formatChange(nano) {
  return isNano(nano) && !nano.startsWith("-") ? `+${formatTon(nano)}` : formatTon(nano).replace("-", "−");
}

// The sum of nanoTON strings, as such a string; null when one of them is not a number.
export function sumNano(parts) {
  return Array.isArray(parts) && parts.every(isNano) ? String(parts.reduce((sum, part) => sum + BigInt(part), 0n)) : null;
}

export function formatAge(seconds) {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 1) return "just now";
  if (seconds < 90) return `${Math.floor(seconds)} s ago`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

export function formatSpan(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 100 ? `last ${seconds} s` : `last ${Math.round(seconds / 60)} min`;
}

// What is left of a wait, by its two largest units.
export function formatWait(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  if (left < 60) return `${left} s`;
  if (left < 3600) return `${Math.floor(left / 60)} min ${left % 60} s`;
  if (left < 86400) return `${Math.floor(left / 3600)} h ${Math.floor((left % 3600) / 60)} min`;
  return `${Math.floor(left / 86400)} d ${Math.floor((left % 86400) / 3600)} h`;
}

// An ISO 8601 text, or unix seconds as a number or digits, as UTC without its zone.
export function formatTime(given) {
  const isUnix = isNumber(given) || /^\d+$/.test(given ?? "");
  const date = new Date(isUnix ? Number(given) * 1000 : given ?? NaN);
  return Number.isNaN(date.getTime()) ? MISSING : date.toISOString().slice(0, 19).replace("T", " ");
}

// Unix seconds of an ISO 8601 text, a number or digits; null for anything else.
export function toSeconds(given) {
  if (isNumber(given) || /^\d+$/.test(given ?? "")) return Number(given);
  const time = Date.parse(given ?? "");
  return Number.isNaN(time) ? null : time / 1000;
}

export function shortHash(hash) {
  return typeof hash === "string" && hash.length > 14 ? `${hash.slice(0, 8)}…${hash.slice(-6)}` : hash || MISSING;
}
