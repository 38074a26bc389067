// Elements of the page. Text goes in as text only: nothing that comes from the chain is ever read as markup.

import { toneOf } from "./catalog.js";
import { MISSING, formatTon, shortHash } from "./formats.js";
import { linkTo } from "./places.js";

export const byId = (id) => document.getElementById(id);

export function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content.filter((part) => part !== null && part !== undefined));
  return element;
}

export function makeLink(place, className, ...content) {
  const link = make("a", className, ...content);
  link.href = linkTo(place);
  return link;
}

export function makeHashLink(hash) {
  const link = makeLink({ tx: hash }, "hash", shortHash(hash));
  link.title = `All events of transaction ${hash}`;
  return link;
}

export function makePolicyLink(id) {
  return makeLink({ policy: id }, "policy", `policy ${id}`);
}

export function makeChip(tranche) {
  const chip = makeLink({ tranche }, "chip", tranche);
  chip.dataset.tone = toneOf(tranche);
  return chip;
}

// An amount of nanoTON with its unit; a missing one has none.
export function setTon(element, nano) {
  const text = formatTon(nano);
  element.replaceChildren(text, ...(text === MISSING ? [] : [make("span", "ton", "TON")]));
}
