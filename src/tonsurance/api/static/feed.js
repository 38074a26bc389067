// The WebSocket: connects, subscribes, reconnects with back-off and resumes where it stopped.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15000;
const PING_MS = 15000;
const SILENCE_MS = 40000;

export class Feed {
  // `onMessage` gets every pushed message, `onState` one of connecting, live, reconnecting.
  constructor(url, channels, onMessage, onState) {
    this.url = url;
    this.channels = channels;
    this.onMessage = onMessage;
    this.onState = onState;
    this.positions = new Map();
    this.delay = FIRST_DELAY_MS;
    this.heardAt = 0;
    this.socket = null;
    setInterval(() => this.watch(), 1000);
  }

  open() {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.heardAt = this.pingedAt = Date.now();
    socket.addEventListener("open", () => this.subscribe(socket));
    socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
    socket.addEventListener("close", () => socket === this.socket && this.retry());
  }

  subscribe(socket) {
    for (const channel of this.channels) {
      const since = this.positions.get(channel);
      socket.send(JSON.stringify(since ? { action: "subscribe", channel, since } : { action: "subscribe", channel }));
    }
  }

  hear(message) {
    this.heardAt = Date.now();
    if (message.type === "subscribed") {
      this.delay = FIRST_DELAY_MS;
      this.onState("live");
    }
    if (message.offset === undefined) return;
    this.positions.set(message.channel, { epoch: message.epoch, offset: message.offset });
    this.onMessage(message);
  }

  retry() {
    this.socket = null;
    this.onState("reconnecting");
    const wait = this.delay * (0.5 + Math.random() / 2);
    this.delay = Math.min(this.delay * 2, LONGEST_DELAY_MS);
    setTimeout(() => this.open(), wait);
  }

  // A connection can die without a word: ask now and then, and give up on one that does not answer.
  watch() {
    const socket = this.socket;
    if (!socket) return;
    const now = Date.now();
    if (now - this.heardAt > SILENCE_MS) {
      this.retry();
      socket.close();
    } else if (socket.readyState === WebSocket.OPEN && now - this.pingedAt > PING_MS) {
      this.pingedAt = now;
      socket.send(JSON.stringify({ action: "ping" }));
    }
  }
}
