// Every type of event as a sentence. A sentence is a list of texts and links; amounts are nanoTON, times unix seconds.

import { makeChip, makePolicyLink } from "./elements.js";
import { formatTime, formatTon, shortHash, sumNano } from "./formats.js";

export const OP_RELEASE_COVERAGE = 0x39a6b75f;

const ton = (nano) => `${formatTon(nano)} TON`;
const tranche = (fields) => (fields.tranche ? makeChip(fields.tranche) : `tranche ${fields.tranche_id}`);
const policy = (fields) => makePolicyLink(fields.policy_id);
const isRelease = (fields) => Number(fields.op) === OP_RELEASE_COVERAGE;
const CONTRACTS = { PolicyFactory: "The policy factory", BitcoinFloatManager: "The bitcoin float" };
const contract = (event) => CONTRACTS[event.contract_kind] ?? "The vault";
const usd = (cents) => `${(Number(cents) / 100).toLocaleString("en-US", { minimumFractionDigits: 2 })} USD`;
const btc = (satoshi) => `${(Number(satoshi) / 1e8).toFixed(8)} BTC`;

function sayCover(fields) {
  const sum = sumNano(fields.parts);
  const given = sum !== null && sum.startsWith("-");
  return [ton(sum?.replace("-", "")), given ? " of cover released from " : " of cover backed for ", policy(fields)];
}

// Type: [loss, claim or empty, for its colour; the sentence].
const SENTENCES = {
  DepositMade: ["", (f) => ["Deposit of ", ton(f.amount), " in ", tranche(f)]],
  WithdrawalRequested: ["", (f) => ["Withdrawal from ", tranche(f), ` announced, open from ${formatTime(f.available_at)}`]],
  WithdrawalMade: ["", (f) => ["Withdrawal of ", ton(f.amount), " from ", tranche(f)]],
  PremiumsDistributed: ["", (f) => ["Premium of ", ton(f.premium_amount), " received for ", policy(f)]],
  PremiumsEarned: ["", (f) => [tranche(f), " earned ", ton(f.amount), " of premiums"]],
  CoverageChanged: ["", sayCover],
  LossAbsorbed: ["loss", (f) => [tranche(f), " lost ", ton(f.loss_amount), " to ", policy(f)]],
  EpochStarted: ["loss", (f) => [tranche(f), ` was used up: epoch ${f.epoch} begins, all shares before it are void`]],
  ClaimDeferred: ["claim", (f) => ["Breaker: ", ton(f.amount), " for ", policy(f), ` held back until ${formatTime(f.due_at)}`]],
  ClaimCancelled: ["claim", (f) => ["Claim on ", policy(f), " taken back by the admin of the vault"]],
  ShortfallReported: ["loss", (f) => ["No tranche could bear ", ton(f.amount), " of the claim on ", policy(f)]],
  Frozen: ["claim", (f, event) => [
    Number(f.until) * 1000 > Date.parse(event.block_time)
      ? `The vault pays nothing out before ${formatTime(f.until)}`
      : "The vault pays out again",
  ]],
  Paused: ["", (f, event) => [contract(event), f.paused ? " was paused" : " was resumed"]],
  FactorySet: ["", (f) => ["The vault takes policies from factory ", shortHash(f.factory)]],
  PolicyCreated: ["", (f) => ["Bought: ", policy(f), ", ", ton(f.coverage_amount), " of cover for ", ton(f.premium)]],
  PolicyRefused: ["", (f) => ["The vault did not back ", policy(f), "; the buyer got the money back"]],
  PolicyExpired: ["", (f) => ["Ended without a claim: ", policy(f)]],
  PayoutApproved: ["claim", (f) => ["Claim on ", policy(f), " approved: ", ton(f.amount)]],
  PayoutExecuted: ["claim", (f) => ["Claim on ", policy(f), " paid: ", ton(f.amount)]],
  PayoutCancelled: ["claim", (f) => ["Payout of ", policy(f), " cancelled; the policy is active again"]],
  PayoutRefused: ["claim", (f) => [
    isRelease(f) ? "The vault did not release " : "The vault refused to pay ",
    policy(f),
    "; the policy is active as before",
  ]],
  QuoteKeySet: ["", () => ["Another key signs quotes from now on"]],
  FloatRebalanced: ["", (f) => [
    Number(f.action) === 1 ? `Float: bitcoin bought for ${usd(f.amount)}` : `Float: ${btc(f.amount)} sold`,
    ` at ${usd(f.btc_price)}`,
  ]],
  TrancheUpdated: ["", (f) => [tranche(f), " of a direct vault was updated"]],
  LedgerAdjusted: ["claim", (f) => [tranche(f), " was adjusted to the chain by a reconciliation"]],
};

export function sentenceOf(event) {
  const known = SENTENCES[event.event_type];
  return known ? known[1](event.fields, event) : [event.event_type];
}

export function moodOf(event) {
  return SENTENCES[event.event_type]?.[0] ?? "";
}

// A ledger entry knows the type of its event and no more.
const ENTRY_NAMES = {
  DepositMade: "Deposit",
  WithdrawalMade: "Withdrawal",
  PremiumsDistributed: "Premium received",
  PremiumsEarned: "Premium earned",
  CoverageChanged: "Cover changed",
  LossAbsorbed: "Loss",
  EpochStarted: "Epoch started, shares void",
};

export const nameOfEntry = (type) => ENTRY_NAMES[type] ?? type;
