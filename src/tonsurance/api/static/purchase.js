// Buying: a quote for the buyer's wallet, the signature, the chain, the vault. Each step is shown as it happens.

import { byId, make, makeHashLink, makePolicyLink } from "./elements.js";
import { formatTime, formatTon } from "./formats.js";
import { findObstacle } from "./offer.js";
import { describePolicy, followPurchase, isTaken, sayFailure } from "./outcome.js";
import { currentOffer, take } from "./quote.js";
import { Stopped, resetSteps, settleStep, showStep, stepUnderWay, stopAt } from "./steps.js";
import { askPrice, sayError } from "./terms.js";
import { WalletAway, findWallet, openWallet, refreshBalance, sendWithWallet } from "./wallet.js";

const DEARER = 1.01; // a premium in TON that grew by more than this is shown before anything is sent
const MOST_QUOTES = 5; // for one purchase on a chain whose clock runs fast
const QUOTE_PAUSE_MS = 1500;
const WAITING = "Waiting for the transaction to be in a block …";
let busy = false;
let hasWallet = false;

export function openPurchases() {
  byId("buy-local").addEventListener("click", () => buy(buyWithTestWallet));
  byId("buy-own").addEventListener("click", () => buy(buyWithOwnWallet));
  byId("own-copy").addEventListener("click", copyTransaction);
  findWallet((found) => {
    hasWallet = found;
    byId("own").open = !found;
    allowPurchase();
  });
}

// Nothing can be bought while there is no price for what is chosen, nor two things at once.
export function allowPurchase() {
  const offer = currentOffer();
  const ready = !busy && offer !== null && offer.sold;
  byId("buy-local").disabled = !ready || !hasWallet;
  byId("buy-own").disabled = !ready;
}

async function buy(how) {
  const offer = currentOffer();
  if (busy || offer === null) return;
  busy = true;
  allowPurchase();
  byId("own-request").hidden = true;
  resetSteps();
  try {
    await how(offer);
  } catch (error) {
    if (error instanceof Stopped) showStep(error.step, "bad", ...error.content);
    else showStep(stepUnderWay(), "bad", sayError(error, { again: false }));
  } finally {
    busy = false;
    allowPurchase();
    refreshBalance();
  }
}

async function buyWithTestWallet(offer) {
  showStep("quote", "now", "The wallet is opened and a quote asked for it …");
  for (let left = MOST_QUOTES; ; left -= 1) {
    const wallet = await openWallet().catch((error) => stopAt("quote", `${error.message} Nothing was sent.`));
    const answer = await askQuote(offer, wallet.address);
    if (await isSigned(answer, left > 1)) return follow(answer);
    await new Promise((done) => setTimeout(done, QUOTE_PAUSE_MS));
  }
}

// False when the quote ran out before it could be signed, and another may be asked for: nothing was sent.
async function isSigned(answer, mayRepeat) {
  showStep("send", "now", "The test wallet signs …");
  try {
    const sent = await sendWithWallet(answer.transaction);
    showStep("send", "done", `Signed and sent by ${sent.name} as its order ${sent.seqno}.`);
  } catch (error) {
    if (!(error instanceof WalletAway)) throw error;
    if (error.late && mayRepeat) {
      showStep("send", "now", "The quote ran out before it could be signed; another is asked for …");
      return false;
    }
    if (!error.unsure) stopAt("send", `${error.message} Nothing was sent: buy again to get a new quote.`);
    showStep("send", "unsure", `${error.message} Whether it signed is not known: the chain is asked.`);
  }
  return true;
}

async function buyWithOwnWallet(offer) {
  const buyer = byId("own-address").value.trim();
  byId("own-address").setAttribute("aria-invalid", String(!buyer));
  if (!buyer) stopAt("quote", "Give the address of the wallet that will pay: the quote is for it alone.");
  showStep("quote", "now", "A quote is asked for your wallet …");
  const answer = await askQuote(offer, buyer);
  byId("own-link").hidden = !answer.link?.startsWith("ton://");
  byId("own-link").href = byId("own-link").hidden ? "#" : answer.link;
  byId("own-json").value = JSON.stringify(answer.transaction, null, 2);
  byId("own-copied").textContent = "";
  byId("own-request").hidden = false;
  showStep("send", "now", `Open the link or sign the transaction above before ${formatTime(answer.valid_until)} of the chain’s time.`);
  await follow(answer);
}

async function askQuote(offer, buyer) {
  const answer = await askPrice(offer.terms, buyer).catch((error) => stopAt("quote", `${sayError(error, { again: false })} Nothing was sent.`));
  const [before, now] = [Number(offer.answer.premium_nanoton), Number(answer.premium_nanoton)];
  if (!(now <= before * DEARER)) {
    if (currentOffer()?.terms === offer.terms) take(offer.terms, answer);
    stopAt("quote", `The premium is now ${formatTon(answer.premium_nanoton)} TON; it was ${formatTon(offer.answer.premium_nanoton)} TON. ` +
      "Nothing was sent. Buy again if you want it at this price.");
  }
  const obstacle = findObstacle(answer) ?? (answer.transaction ? null : "The server gave no transaction to sign.");
  if (obstacle !== null) stopAt("quote", `${obstacle} Nothing was sent.`);
  showStep("quote", "done", `${formatTon(answer.premium_nanoton)} TON for ${formatTon(answer.coverage_nanoton)} TON of cover, quote ${answer.quote_id}.`);
  return answer;
}

async function follow(answer) {
  showStep("chain", "now", WAITING);
  const found = await followPurchase(answer.payload_hash, showProgress, (text) => showStep(stepUnderWayOfChain(), "now", text));
  if (found === null) {
    const link = make("a", "", "its address");
    link.href = `/api/v2/transactions/${encodeURIComponent(answer.payload_hash)}`;
    stopAt("chain", "It was not seen in ten minutes. If it was not sent, nothing was paid. If it was, what became of it is at ", link, ".");
  }
  if (found.status === "failed") {
    const link = found.hash === null ? "" : makeHashLink(found.hash);
    stopAt(found.stage === "refused_by_vault" ? "vault" : "chain", `${sayFailure(found)} `, link);
  }
  if (!found.policy) return showStep("vault", "done", "The vault backs it.");
  showStep("vault", "done", "The vault backs ", makePolicyLink(found.policy.policy_id), ".");
  showStep("vault", "done", "The vault backs ", makePolicyLink(found.policy.policy_id), `: ${await describePolicy(found.policy)}.`);
}

const stepUnderWayOfChain = () => (stepUnderWay() === "vault" ? "vault" : "chain");

function showProgress(answer) {
  if (answer.hash) settleStep("send", "Signed and sent.");
  if (isTaken(answer)) {
    showStep("chain", "done", "The factory took the quote: ", makeHashLink(answer.hash));
    showStep("vault", "now", "Waiting for the vault’s answer …");
  } else if (answer.status === "pending") {
    showStep("chain", "now", WAITING);
  }
}

async function copyTransaction() {
  const text = byId("own-json");
  text.select();
  const copied = await navigator.clipboard?.writeText(text.value).then(() => true, () => false);
  byId("own-copied").textContent = copied ? "Copied." : "Selected: copy it with your keyboard.";
}
