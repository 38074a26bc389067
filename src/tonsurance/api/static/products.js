// The products there are, and the three groups to choose one in: what cannot be combined is disabled and says why.

import { byId, make } from "./elements.js";

export const DIMENSIONS = ["coverage_type", "chain", "stablecoin"];
const NAMES = {
  depeg: "Depeg",
  smart_contract: "Smart contract",
  oracle: "Oracle",
  bridge: "Bridge",
  cex_liquidation: "Exchange liquidation",
};

export const nameOf = (value) => NAMES[value] ?? value;
export const titleOf = (choice) => DIMENSIONS.map((dimension) => nameOf(choice[dimension])).join(" · ");

const keyOf = (choice) => DIMENSIONS.map((dimension) => choice[dimension]).join("/");

export class Catalogue {
  #products = new Map();

  constructor(products) {
    for (const product of products) this.#products.set(keyOf(product), product);
  }

  find(choice) {
    return this.#products.get(keyOf(choice)) ?? null;
  }

  // In the order the server names them.
  values(dimension) {
    return [...new Set([...this.#products.values()].map((product) => product[dimension]))];
  }
}

export class Choices {
  #catalogue = null;

  // `onChange` is called when somebody chose another product.
  constructor(onChange) {
    this.onChange = onChange;
  }

  // Shows what there is; chooses the first valid product when nothing was chosen yet.
  show(catalogue) {
    const before = this.chosen();
    this.#catalogue = catalogue;
    for (const dimension of DIMENSIONS) {
      byId(`picks-${dimension}`).replaceChildren(...catalogue.values(dimension).map((value) => this.#makePick(dimension, value)));
    }
    this.choose(before.stablecoin ? before : Object.fromEntries(DIMENSIONS.map((name) => [name, catalogue.values(name)[0]])));
  }

  #makePick(dimension, value) {
    const input = make("input");
    Object.assign(input, { type: "radio", name: dimension, value });
    input.addEventListener("change", () => {
      this.#mark();
      this.onChange();
    });
    return make("label", "pick", input, make("span", "", nameOf(value)));
  }

  // The chosen product; a dimension without a choice is missing.
  chosen() {
    return Object.fromEntries(DIMENSIONS.map((dimension) => [dimension, this.#checked(dimension)?.value]));
  }

  // False when the catalogue knows no such product: then nothing is changed.
  choose(choice) {
    if (!this.#catalogue?.find(choice)) return false;
    for (const dimension of DIMENSIONS) {
      for (const input of this.#inputs(dimension)) input.checked = input.value === choice[dimension];
    }
    this.#mark();
    return true;
  }

  // The chosen product as the catalogue has it.
  product() {
    return this.#catalogue?.find(this.chosen()) ?? null;
  }

  #inputs = (dimension) => [...byId(`picks-${dimension}`).querySelectorAll("input")];
  #checked = (dimension) => this.#inputs(dimension).find((input) => input.checked);

  // Disables what cannot be had with the two other choices. What is chosen stays enabled, also by a link to nonsense.
  #mark() {
    const chosen = this.chosen();
    for (const dimension of DIMENSIONS) {
      const refused = new Map();
      for (const input of this.#inputs(dimension)) {
        const product = this.#catalogue.find({ ...chosen, [dimension]: input.value });
        const reason = product === null ? "not offered" : product.valid ? null : product.reason;
        input.disabled = reason !== null && !input.checked;
        const pick = input.parentElement;
        pick.title = reason ?? sayWhyNotSold(product);
        pick.dataset.sold = String(Boolean(product?.on_sale));
        if (reason !== null) refused.set(reason, [...(refused.get(reason) ?? []), nameOf(input.value)]);
      }
      byId(`reasons-${dimension}`).textContent = [...refused].map(([reason, names]) => `${names.join(", ")}: ${reason}.`).join(" ");
    }
  }
}

export function sayWhyNotSold(product) {
  if (!product || product.on_sale) return "";
  const reasons = Array.isArray(product.on_sale_reasons) ? product.on_sale_reasons : [];
  return `Not sold right now${reasons.length ? `: ${reasons.map(sayReason).join("; ")}` : ""}.`;
}

// A reason is a sentence, or an object that has one.
export const sayReason = (reason) => (typeof reason === "string" ? reason : reason?.message ?? reason?.reason ?? JSON.stringify(reason));
