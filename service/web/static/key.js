// The API key, where the server wants one. It is asked for when it is missed, stays in this tab, and never gets into
// an address: those end up in logs and histories.
import { words } from "./problems.js";

const NAME = "momentum-api-key";

let key = read();
let asking = null; // the answer that is waited for, by all who miss a key
let declined = 0; // how often people gave none

export const apiKey = () => key;
export const asksForKey = () => asking !== null;

/** What a WebSocket offers, as it can have no headers. */
export const subprotocols = () => (key ? ["momentum", `bearer.${key}`] : []);

/** Fetch with the key, again and again while it is refused and people give another one.
 * @param patience milliseconds that an answer may take; without it, any time
 * @param asks whether people are asked; what nobody has just begun must not interrupt them */
export async function fetchWithKey(url, { patience, asks = true, headers, ...options } = {}) {
  for (;;) {
    const [used, before] = [key, declined];
    const response = await fetch(url, {
      ...options,
      headers: used ? { ...headers, Authorization: `Bearer ${used}` } : headers,
      signal: patience && AbortSignal.timeout(patience),
    });
    const refused = response.status === 401 || (response.status === 403 && used);
    if (!refused || !asks) return response;
    const answer = new Response(await response.text(), response); // patience may end while people type
    if (key !== used) continue;
    if (declined !== before) return answer; // they gave none while this was under way, and are not asked again
    if (!(await (asking ??= ask(answer.clone(), used)))) return answer;
  }
}

/** Whether people gave a key. */
async function ask(response, used) {
  const [dialog, reason, input] = ["key", "key-reason", "key-input"].map((id) => document.getElementById(id));
  reason.textContent = await why(response, used);
  dialog.returnValue = "";
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.showModal();
  await closed;
  const given = dialog.returnValue === "use";
  if (given) keep(input.value.trim());
  else declined += 1;
  input.value = "";
  asking = null;
  return given;
}

async function why(response, used) {
  if (!used) return "This server wants an API key. Ask whoever runs it for one.";
  if (response.status === 401) return "The server does not know this API key. Give it as you got it, or another one.";
  return words(await response.json().catch(() => ({}))) || "The server refuses this API key. Give it another one.";
}

function keep(given) {
  key = given;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // a browser that stores nothing: it is asked for again when the page is loaded again
  }
}

function read() {
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return null;
  }
}
