// The chain's time between two messages. A chain whose last event is old by our clock keeps its own pace.

const SAME_CLOCK_S = 120;
const WINDOW_MS = 60000;

export class ChainClock {
  #heard = [];

  hear(unixSeconds, now = Date.now()) {
    const last = this.#heard.at(-1);
    if (!Number.isFinite(unixSeconds) || (last && unixSeconds <= last.chain)) return;
    this.#heard.push({ chain: unixSeconds, at: now });
    while (this.#heard.length > 2 && this.#heard[1].at < now - WINDOW_MS) this.#heard.shift();
  }

  // Unix seconds; null before anything was heard.
  now(now = Date.now()) {
    const last = this.#heard.at(-1);
    if (!last) return null;
    if (Math.abs(now / 1000 - last.chain) < SAME_CLOCK_S) return Math.max(last.chain, now / 1000);
    return last.chain + (this.#pace() * (now - last.at)) / 1000;
  }

  #pace() {
    const [first, last] = [this.#heard[0], this.#heard.at(-1)];
    return last.at - first.at < 1000 ? 1 : ((last.chain - first.chain) * 1000) / (last.at - first.at);
  }
}
