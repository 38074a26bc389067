// The test wallet of a local chain: a wallet of a name that this browser keeps. There is none on a public network.

import { byId, setTon } from "./elements.js";
import { postJson, readJson } from "./reads.js";

const KEPT = "tonsurance test wallet";
const NAME = /^[a-z0-9-]{1,40}$/;
const WHO = "The test wallet";
const TOO_LATE = 410;
const RETRY_MS = 5000;

export class WalletAway extends Error {}

let address = null; // of the service; null: there is none, or not known yet
let known = null; // the wallet as it was told last

// Asks the server whether there is one, until it says so. `onKnown` is told true or false.
export async function findWallet(onKnown) {
  try {
    address = (await readJson("/api/v2/wallet", {})).test_wallet_url;
  } catch (error) {
    say(`It is not known yet whether there is a test wallet. ${error.message} It is asked again.`, true);
    setTimeout(() => findWallet(onKnown), RETRY_MS);
    return;
  }
  byId("wallet").hidden = address === null;
  if (address !== null) {
    byId("wallet-name").value = readName();
    byId("wallet-name").addEventListener("change", () => openWallet().catch(() => {}));
    openWallet().catch(() => {});
  }
  onKnown(address !== null);
}

function readName() {
  let name = null;
  try {
    name = localStorage.getItem(KEPT);
  } catch {
    // a browser that keeps nothing gets a new wallet each time
  }
  return NAME.test(name ?? "") ? name : `visitor-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
}

function chosenName() {
  const name = byId("wallet-name").value.trim();
  const good = NAME.test(name);
  byId("wallet-name").setAttribute("aria-invalid", String(!good));
  if (!good) throw new WalletAway("A wallet’s name has 1 to 40 of the characters a to z, 0 to 9 and -. Give it another name.");
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    // as above
  }
  return name;
}

// Finds or makes the wallet, and fills it up. Raises WalletAway with what to do.
export async function openWallet() {
  return use(() => postJson(address, { name: chosenName() }, { who: WHO }));
}

// Signs and sends: what the wallet says of it. Raises WalletAway; `unsure` when it may have been sent all the same,
// `late` when the quote ran out before it could be signed.
export async function sendWithWallet(transaction) {
  return use(() => postJson(`${address}/send`, { name: chosenName(), transaction }, { who: WHO }));
}

export async function refreshBalance() {
  if (address === null || known === null) return;
  await use(() => readJson(address, { name: known.name })).catch(() => {});
}

async function use(request) {
  try {
    known = await request();
  } catch (error) {
    say(error.message, true);
    const away = new WalletAway(error instanceof WalletAway || error.status ? error.message : `${error.message} Is the local chain running?`);
    away.unsure = !(error instanceof WalletAway) && error.status === null;
    away.late = error.status === TOO_LATE;
    throw away;
  }
  say("");
  setTon(byId("wallet-balance"), known.balance_nanoton);
  byId("wallet-balance").title = known.address_friendly;
  const arriving = known.arriving_nanoton !== "0";
  if (arriving) {
    say("Test coins are on their way.");
    setTimeout(refreshBalance, 1000);
  }
  return known;
}

function say(text, bad = false) {
  byId("wallet-word").textContent = text;
  byId("wallet-word").dataset.bad = String(bad);
  if (bad) byId("wallet-balance").textContent = "—";
}
