// Errors in words, with what to do.

const MEGABYTES = 16;

export const AWAY = "The server does not answer. Is it running, and is this machine online? Try again in a moment.";

/** Show a problem in an element, or nothing (null). */
export function show(element, text) {
  element.textContent = text ?? "";
}

/** What a problem document, or a stream's error, says; "" if nothing. */
export function words({ detail, expected }) {
  return [detail, expected && `Expected: ${expected}`].filter(Boolean).map((part) => `${part}.`).join(" ");
}

/** What to say of a file that is too large to send, such as "an image"; null if it is not. */
export function tooLarge(file, what) {
  if (file.size <= MEGABYTES * 2 ** 20) return null;
  return `${file.name} has ${(file.size / 2 ** 20).toFixed(0)} MB. Choose ${what} of at most ${MEGABYTES} MB.`;
}

/** What an answer that is not OK says: a problem document, or whatever came. */
export async function describe(response) {
  if (response.status === 401) return "This server wants an API key. Try again, and give it one.";
  const problem = await response.json().catch(() => null);
  const said = words(problem ?? {});
  if (response.status === 429) {
    const seconds = response.headers.get("Retry-After") ?? "a few";
    return `${said || "The server has more to do than it can."} Try again in ${seconds} s.`;
  }
  return said || `The server answered ${response.status}. Try again, or look into its log.`;
}
