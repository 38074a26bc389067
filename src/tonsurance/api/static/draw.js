// Small drawings. Nothing here keeps state; what is missing is drawn as missing.

import { formatApy, formatPercent, formatSpan, isNumber } from "./formats.js";

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

const line = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");

const CURVE = { width: 300, height: 96, top: 8, bottom: 88 };

// The bonding curve, with the tranche's own point on it and the utilisation above which no cover is sold.
export function drawCurve(svg, points, tranche) {
  const range = tranche.apy_range;
  const span = range.max - range.min;
  const x = (u) => u * CURVE.width;
  const y = (apy) =>
    span > 0 ? CURVE.bottom - ((apy - range.min) / span) * (CURVE.bottom - CURVE.top) : (CURVE.top + CURVE.bottom) / 2;
  const children = [shape("path", { class: "base", d: `M0 ${CURVE.bottom}H${CURVE.width}` })];
  children.push(shape("path", { class: "limit", d: `M${x(tranche.max_utilization)} 2V${CURVE.bottom}` }));
  if (points) {
    const path = line(points.map(([u, apy]) => [x(u), y(apy)]));
    children.push(shape("path", { class: "area", d: `${path}L${CURVE.width} ${CURVE.bottom}L0 ${CURVE.bottom}Z` }));
    children.push(shape("path", { class: "line", d: path }));
  }
  if (isNumber(tranche.current_apy)) {
    const [px, py] = [x(tranche.utilization), y(tranche.current_apy)];
    children.push(shape("path", { class: "drop", d: `M${px} ${py}V${CURVE.bottom}` }));
    children.push(shape("path", { class: "point", d: `M${px} ${py}h0.01` }));
    children.push(shape("path", { class: "core", d: `M${px} ${py}h0.01` }));
  }
  svg.replaceChildren(...children);
  svg.setAttribute(
    "aria-label",
    `Bonding curve from ${range.min} to ${range.max} percent; now ${formatApy(tranche.current_apy)} percent ` +
      `at ${formatPercent(tranche.utilization)} utilisation.`,
  );
}

const SPARK = { width: 200, height: 28, pad: 3, least: 0.02 };

// Utilisation since `start` as steps: it changes at events and holds in between. Samples are [time in ms, ratio].
export function drawSpark(svg, samples, start, now) {
  const windowMs = now - start;
  const ground = shape("path", { class: "ground", d: `M0 ${SPARK.height}H${SPARK.width}` });
  if (!samples.length) {
    svg.replaceChildren(ground);
    svg.setAttribute("aria-label", "No utilisation seen yet.");
    return;
  }
  const values = samples.map(([, value]) => value);
  const middle = (Math.min(...values) + Math.max(...values)) / 2;
  const half = Math.max(SPARK.least, Math.max(...values) - Math.min(...values)) / 2;
  const x = (time) => (Math.max(0, time - start) / windowMs) * SPARK.width;
  const y = (value) => SPARK.height / 2 - ((value - middle) / half) * (SPARK.height / 2 - SPARK.pad);
  let path = `M${x(samples[0][0]).toFixed(2)} ${y(samples[0][1]).toFixed(2)}`;
  for (const [time, value] of samples.slice(1)) path += `H${x(time).toFixed(2)}V${y(value).toFixed(2)}`;
  svg.replaceChildren(ground, shape("path", { d: `${path}H${SPARK.width}` }));
  svg.setAttribute(
    "aria-label",
    `Utilisation of the ${formatSpan(windowMs)}: ${formatPercent(Math.min(...values))} to ` +
      `${formatPercent(Math.max(...values))}.`,
  );
}
