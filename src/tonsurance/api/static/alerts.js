// Open alerts, as the channel tells of them: what is open on top of the page, the worst first.

import { byId, make, makeLink } from "./elements.js";
import { TRANCHES } from "./catalog.js";
import { formatTime } from "./formats.js";

export const ALERTS_CHANNEL = "risk_alerts";

const SEVERITIES = ["Critical", "High", "Medium", "Low"];
const SHOWN = 12;
const open = new Map();
const seen = { state: false, stale: false };

const rankOf = (alert) => SEVERITIES.indexOf(alert.severity);
const isWorse = (alert, than) => rankOf(alert) < rankOf(than);

// `vault` is the one whose figures the page shows: tranches of others have no place to link to here.
export function hearAlert(message, vault) {
  if (message.type === "state") {
    seen.state = true;
    seen.stale = message.stale;
    open.clear();
    message.alerts.forEach((alert) => open.set(alert.alert_id, alert));
  } else if (message.type === "alert_resolved") {
    open.delete(message.alert_id);
  } else {
    open.set(message.alert_id, withAcknowledgement(message));
    if (message.type === "new_alert") byId("announce").textContent = `${message.severity} alert: ${message.message}`;
  }
  showAlerts(vault);
}

// An update says nothing of who acknowledged the alert before; that holds until it gets more severe.
function withAcknowledgement(message) {
  const known = open.get(message.alert_id);
  if (!known || message.acknowledged_by || isWorse(message, known)) return message;
  return { ...message, acknowledged_by: known.acknowledged_by };
}

function showAlerts(vault) {
  const sorted = [...open.values()].sort((a, b) => rankOf(a) - rankOf(b) || Number(b.alert_id) - Number(a.alert_id));
  const critical = sorted.filter((alert) => alert.severity === "Critical").length;
  byId("alerts").replaceChildren(...sorted.slice(0, SHOWN).map((alert) => makeRow(alert, vault)));
  byId("alerts-box").dataset.worst = sorted[0]?.severity ?? "";
  byId("alerts-word").textContent = sayCount(sorted.length, critical);
}

function sayCount(count, critical) {
  if (seen.stale) return "Alerts cannot be read right now. These were open when they could.";
  if (!seen.state) return "It is not known yet whether an alert is open.";
  if (!count) return "No alert is open.";
  const more = count > SHOWN ? `, ${count - SHOWN} of them not shown` : "";
  return `${count} open${critical ? `, ${critical} critical` : ""}${more}`;
}

function makeRow(alert, vault) {
  const said = alert.vault_id === vault && TRANCHES.includes(alert.tranche_id)
    ? makeLink({ tranche: alert.tranche_id }, "said", alert.message)
    : make("span", "said", alert.message);
  const seenBy = alert.acknowledged_by ? `seen by ${alert.acknowledged_by}` : "";
  const row = make("li", "alert", make("span", "badge", alert.severity), said, make("span", "label seen", seenBy),
    make("span", "num when", `since ${formatTime(alert.opened_at)}`));
  row.dataset.severity = alert.severity;
  row.dataset.kind = alert.alert_type;
  row.title = `${alert.alert_type} ${alert.alert_id}, vault ${alert.vault_id ?? "none"}`;
  return row;
}
