// The form to buy cover with: what there is to choose from, and what a link chooses.

import { byId } from "./elements.js";
import { choiceOf } from "./places.js";
import { Catalogue } from "./products.js";
import { abandon, changed, choices, say } from "./quote.js";
import { readJson } from "./reads.js";

const RETRY_MS = 5000;

export function openShop() {
  byId("ask").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["amount", "days"]) byId(id).addEventListener("input", () => changed());
  for (const quick of byId("ask").querySelectorAll("button[data-days]")) {
    quick.addEventListener("click", () => {
      byId("days").value = quick.dataset.days;
      changed();
    });
  }
  byId("offer-again").addEventListener("click", () => changed(0));
  loadProducts();
}

async function loadProducts() {
  try {
    choices.show(new Catalogue((await readJson("/api/v2/products", {})).products));
  } catch (error) {
    say(`The products cannot be shown yet. ${error.message} It is tried again every few seconds.`, true);
    setTimeout(loadProducts, RETRY_MS);
    return;
  }
  addEventListener("hashchange", takeLink);
  if (!takeLink()) changed(0);
}

// True when the address names a cover: the form shows it, or says that there is none such.
function takeLink() {
  const linked = choiceOf(location.hash);
  if (linked === null) return false;
  byId("buy").scrollIntoView();
  if (!choices.choose(linked)) {
    abandon(`The link names a product that there is not: ${location.hash.slice(1, 90)}. Choose one here.`);
    return true;
  }
  if (linked.amount) byId("amount").value = linked.amount;
  if (linked.days) byId("days").value = linked.days;
  changed(0);
  return true;
}
