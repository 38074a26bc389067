// The panel behind every link: ledger entries of a figure, or events of a transaction, policy or type, page by page.

import { makeEventRow } from "./activity.js";
import { FIGURES, TRANCHES, toneOf } from "./catalog.js";
import { byId, make, makeChip, makeHashLink, makeLink, makePolicyLink, setTon } from "./elements.js";
import { formatChange, formatTime, isNano } from "./formats.js";
import { placeOf } from "./places.js";
import { readJson } from "./reads.js";
import { nameOfEntry } from "./words.js";

const PAGE = 100;
const ROWS_WANTED = 20;
const MOST_PAGES = 10;
const ENTRIES = "/api/v2/ledger/entries";
const EVENTS = "/api/v2/events";

// --- what a place shows: title, explanation, address, parameters, how an item becomes a row

function viewOf(place) {
  if (place.tranche) return viewEntries(place);
  if (place.tx) {
    return events("Transaction", `Every event of transaction ${place.tx}.`, { transaction: place.tx, order: "asc" });
  }
  if (place.policy) {
    return events(`Policy ${place.policy}`, "Every event that names this policy, newest first.", { policy_id: place.policy, order: "desc" });
  }
  if (place.events) return events(place.events, "Every event of this type, newest first.", { type: place.events, order: "desc" });
  return null;
}

function events(title, note, parameters) {
  return { title, note, path: EVENTS, parameters, itemsOf: (answer) => answer.events, makeRow: makeEventRow, wants: () => true };
}

function viewEntries({ tranche, figure }) {
  const one = TRANCHES.includes(tranche);
  const field = FIGURES[figure]?.[1];
  return {
    title: one ? tranche : "All tranches",
    note: figure
      ? `The ledger entries that make ${one ? "its" : "their"} ${FIGURES[figure][0]}, newest first. Their sum is the figure.`
      : `Everything the ledger booked for ${one ? "this tranche" : "the six tranches"}, newest first.`,
    tranche,
    figure,
    path: ENTRIES,
    parameters: { tranche_id: one ? tranche : undefined, order: "newest" },
    itemsOf: (answer) => answer.entries,
    makeRow: (entry) => makeEntryRow(entry, !one),
    wants: (entry) => !field || entry[field] !== "0",
  };
}

function makeEntryRow(entry, withTranche) {
  const said = make("span", "said", nameOfEntry(entry.event_type));
  if (withTranche) said.append(" · ", makeChip(entry.tranche_id));
  if (entry.policy_id !== null) said.append(" · ", makePolicyLink(entry.policy_id));
  const changes = make("span", "changes");
  for (const [figure, [name, field]] of Object.entries(FIGURES)) {
    if (!isNano(entry[field]) || entry[field] === "0") continue;
    const change = make("span", "change", make("span", "label", name), ` ${formatChange(entry[field])}`, make("span", "ton", "TON"));
    change.dataset.figure = figure;
    changes.append(change);
  }
  if (!changes.children.length) changes.append(make("span", "label", "shares only"));
  const row = make("li", "entry", said, changes, makeHashLink(entry.transaction_hash),
    make("span", "num when", formatTime(entry.block_time)));
  row.title = `${entry.event_type}, ledger entry ${entry.entry_id}, logical time ${entry.logical_time}`;
  return row;
}

// --- the panel itself

const dialog = byId("panel");
const list = byId("panel-rows");
let current = null; // { view, place, after, abort, looked }

export function watchAddress(figureOf) {
  const open = () => openPlace(placeOf(location.hash), figureOf);
  addEventListener("hashchange", open);
  byId("panel-close").addEventListener("click", () => dialog.close());
  byId("panel-more").addEventListener("click", loadMore);
  byId("panel-again").addEventListener("click", () => openPlace(current.place, figureOf));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  // Closing is a step as well: Back opens again what was closed, and a link can always be copied from the address.
  dialog.addEventListener("close", () => {
    current?.abort.abort();
    current = null;
    if (placeOf(location.hash)) history.pushState(null, "", location.pathname + location.search);
  });
  open();
}

function openPlace(place, figureOf) {
  if (place === null) {
    if (dialog.open) dialog.close();
    return;
  }
  current?.abort.abort();
  const view = viewOf(place);
  current = { place, view, after: null, looked: 0, abort: new AbortController() };
  list.replaceChildren();
  showHead(place, view, figureOf);
  if (!dialog.open) dialog.showModal();
  byId("panel-body").scrollTop = 0;
  if (view) loadMore();
  else say(`There is nothing at “${place.wrong}”. The link may be cut off.`, { bad: true });
}

function showHead(place, view, figureOf) {
  byId("panel-title").textContent = view?.title ?? "Not a place of this page";
  byId("panel-title").dataset.tone = place.tranche ? toneOf(place.tranche) : "";
  byId("panel-note").textContent = view?.note ?? "";
  const figure = byId("panel-figure");
  figure.replaceChildren();
  if (place.figure) setTon(figure, figureOf(place));
  const tabs = place.tranche ? [undefined, ...Object.keys(FIGURES)] : [];
  byId("panel-tabs").replaceChildren(...tabs.map((key) => {
    const tab = makeLink({ tranche: place.tranche, figure: key }, "tab", key ? FIGURES[key][0] : "all entries");
    if (key === place.figure) tab.setAttribute("aria-current", "true");
    return tab;
  }));
  byId("panel-tabs").hidden = !tabs.length;
}

function say(text, { bad = false, more = false } = {}) {
  const word = byId("panel-word");
  word.textContent = text;
  word.dataset.bad = String(bad);
  byId("panel-more").hidden = !more;
  byId("panel-again").hidden = !bad || !current?.view;
}

// Reads pages until there is a screenful of what is wanted, but not without end.
async function loadMore() {
  const mine = current;
  const { view, abort } = mine;
  say("Reading …");
  try {
    let added = 0;
    for (let page = 0; page < MOST_PAGES && added < ROWS_WANTED; page += 1) {
      const answer = await readJson(view.path, { ...view.parameters, after: mine.after, limit: PAGE }, abort.signal);
      if (mine !== current) return;
      const items = view.itemsOf(answer);
      const rows = items.filter(view.wants).map(view.makeRow);
      list.append(...rows);
      mine.looked += items.length;
      added += rows.length;
      mine.after = answer.next_after;
      if (items.length < PAGE || answer.next_after === null) return sayEnd(mine);
    }
    say(`${list.children.length} shown, ${mine.looked} read so far, at ${readAt()}.`, { more: true });
  } catch (error) {
    if (mine === current && error.name !== "AbortError") say(`${error.message} Nothing is shown that was not read.`, { bad: true });
  }
}

const readAt = () => `${formatTime(Date.now() / 1000).slice(11)} UTC`;

function sayEnd(mine) {
  const count = list.children.length;
  if (count) return say(`That is all: ${count} shown of ${mine.looked} read, at ${readAt()}.`);
  return say(mine.place.tx ? "The ledger has no event of this transaction." : "The ledger has nothing here yet.");
}
