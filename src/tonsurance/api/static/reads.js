// Reads of the REST interface. Whatever goes wrong is an Error whose message a reader of the page understands.

export async function readJson(path, parameters, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null) query.set(name, value);
  }
  let answer;
  try {
    answer = await fetch(`${path}?${query}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached.");
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body?.detail ?? `The server answered with status ${answer.status}.`);
  if (body === null) throw new Error("The server’s answer is not JSON.");
  return body;
}
