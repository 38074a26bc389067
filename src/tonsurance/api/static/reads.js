// Reads of the REST interface. Whatever goes wrong is an Error whose message a reader of the page understands.

// `status` is null when no answer came; `code` is the problem's, `body` all that the answer said.
export class ReadError extends Error {
  constructor(message, status = null, body = null) {
    super(message);
    this.status = status;
    this.body = body;
    this.code = body?.code ?? null;
  }
}

const TIMEOUT_MS = 20000;

export async function readJson(path, parameters, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null) query.set(name, value);
  }
  const mark = path.includes("?") ? "&" : "?";
  return readAnswer(query.size ? `${path}${mark}${query}` : path, { signal }, "The server");
}

// `who` is what is asked, as a reader knows it.
export async function postJson(path, body, { signal, who = "The server" } = {}) {
  const headers = { "Content-Type": "application/json" };
  return readAnswer(path, { method: "POST", headers, body: JSON.stringify(body), signal }, who);
}

async function readAnswer(address, options, who) {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  let answer;
  try {
    answer = await fetch(address, { ...options, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ReadError(`${who} cannot be reached.`);
  }
  const body = await answer.json().catch(() => null);
  if (options.signal?.aborted) throw new DOMException("No longer wanted.", "AbortError");
  if (!answer.ok) {
    throw new ReadError(body?.detail ?? body?.error ?? `${who} answered with status ${answer.status}.`, answer.status, body);
  }
  if (body === null) throw new ReadError(`${who}’s answer is not JSON.`, answer.status);
  return body;
}
