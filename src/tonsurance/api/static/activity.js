// Rows of events, and the list of the latest ones as they are posted.

import { byId, make, makeHashLink } from "./elements.js";
import { formatTime } from "./formats.js";
import { moodOf, sentenceOf } from "./words.js";

const MAX_SHOWN = 14;
const MAX_REMEMBERED = 1000;
const remembered = new Set();

export function makeEventRow(event) {
  const row = make("li", "event",
    make("span", "said", ...sentenceOf(event)),
    makeHashLink(event.transaction_hash),
    make("span", "num when", formatTime(event.block_time)),
  );
  row.dataset.mood = moodOf(event);
  row.dataset.type = event.event_type;
  row.title = `${event.event_type}, logical time ${event.lt}, message ${event.message_index}`;
  return row;
}

// False when the event was shown before: the feed may say one twice after a reconnect.
export function showEvent(event, fresh) {
  if (remembered.has(event.event_id)) return false;
  remembered.add(event.event_id);
  if (remembered.size > MAX_REMEMBERED) remembered.delete(remembered.values().next().value);
  const row = makeEventRow(event);
  if (fresh) row.classList.add("fresh");
  const list = byId("events");
  list.prepend(row);
  while (list.children.length > MAX_SHOWN) list.lastElementChild.remove();
  byId("no-events").hidden = true;
  return true;
}

// More events at once than the feed hands out: they are in the ledger and not in this list.
export function showGap(message) {
  const row = make("li", "event gap", `Events ${BigInt(message.after) + 1n} to ${message.until} came too fast to be shown here.`);
  const link = make("a", "", "Read them in the audit log");
  link.href = `/api/v2/events?limit=200&after=${encodeURIComponent(message.after)}`;
  row.append(link);
  byId("events").prepend(row);
}
