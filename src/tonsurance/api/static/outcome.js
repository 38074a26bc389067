// What became of a purchase: asked for again and again until it is known, but not without end.

import { formatTime, formatTon } from "./formats.js";
import { readJson } from "./reads.js";
import { isOutage } from "./terms.js";

const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 4000;
const PATIENCE_MS = 600000; // longer than a quote is valid
const NOT_YET_KNOWN = 404;

const OF_ITS_TIME = ["quote_expired", "deadline_too_far"]; // refusals that the next quote may not meet

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Tells `hear` every answer, and `onTrouble` of outages. Returns the answer that is final; null when there was none in time.
export async function followPurchase(hash, hear, onTrouble) {
  const until = Date.now() + PATIENCE_MS;
  for (let pause = FIRST_PAUSE_MS; Date.now() < until; pause = Math.min(pause * 1.25, LONGEST_PAUSE_MS)) {
    try {
      const answer = await readJson(`/api/v2/transactions/${encodeURIComponent(hash)}`, {});
      hear(answer);
      if (answer.status !== "pending") return answer;
    } catch (error) {
      if (error.status === undefined) throw error;
      if (isOutage(error)) onTrouble(`${error.message} It is asked again; the chain goes on without it.`);
      else if (error.status !== NOT_YET_KNOWN) throw error;
    }
    await wait(pause);
  }
  return null;
}

// The factory took the quote: what is left, or came, is the vault's answer.
export const isTaken = (answer) => ["awaiting_vault", "backed", "refused_by_vault"].includes(answer.stage);

// Why it failed: the sentence of its exit code, and where the money is.
export function sayFailure(answer) {
  if (answer.stage === "expired") return "The quote ran out before it was used. Nothing was paid. Buy again to get a new one.";
  const { sentence, code, action_code: action } = answer.reason ?? {};
  const said = sentence ?? (answer.stage === "refused_by_vault" ? "The vault did not back it." : "The contract refused it.");
  const number = code ?? action;
  const again = OF_ITS_TIME.includes(answer.reason?.name) ? " Buy again to get a new quote." : "";
  return `${said}${number === null || number === undefined ? "" : ` (Exit code ${number}.)`} ${sayRefund(answer)}${again}`;
}

function sayRefund({ refunded_nanoton: nano }) {
  return nano ? `${formatTon(nano)} TON went back to your wallet.` : "What came with it goes back to your wallet, less the fees.";
}

// Cover and times of the policy, once it can be read; what is wrong with that does not undo the purchase.
export async function describePolicy({ href }) {
  try {
    const answer = await readJson(href, {});
    const policy = answer.policy ?? answer;
    return `${policy.status}, ${formatTon(policy.coverage_nanoton)} TON of cover from ${formatTime(policy.start)} to ${formatTime(policy.end)}`;
  } catch (error) {
    return `in force. Its terms cannot be shown now: ${error.message}`;
  }
}
