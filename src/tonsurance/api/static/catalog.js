// The six tranches, senior to junior, and the figures of a tranche that ledger entries make.

export const TRANCHES = ["SURE-BTC", "SURE-SNR", "SURE-MEZZ", "SURE-JNR", "SURE-JNR+", "SURE-EQT"];
export const RANKS = ["most senior", "senior", "mezzanine", "junior", "junior plus", "first loss"];

// Name in a link: [what a reader calls it, its field in a ledger entry].
export const FIGURES = {
  capital: ["capital", "capital_delta_nanoton"],
  cover: ["cover sold", "coverage_delta_nanoton"],
  losses: ["losses", "loss_delta_nanoton"],
  unearned: ["unearned premiums", "unearned_delta_nanoton"],
};

// 1 (most senior) to 6, as the style sheet numbers its colours.
export const toneOf = (tranche) => TRANCHES.indexOf(tranche) + 1;
