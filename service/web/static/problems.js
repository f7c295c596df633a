// Errors in words, with what to do.

/** Show a problem in an element, or hide it (null). */
export function show(element, text) {
  element.textContent = text ?? "";
  element.hidden = text === null;
}

/** What an answer that is not OK says: a problem document, or whatever came. */
export async function describe(response) {
  if (response.status === 429) {
    const seconds = response.headers.get("Retry-After") ?? "a few";
    return `The server has more to do than it can. Try again in ${seconds} seconds.`;
  }
  if (response.status === 401 || response.status === 403) {
    return "This server wants an API key, which this page has no field for: use the API.";
  }
  try {
    const problem = await response.json();
    return [problem.detail, problem.expected && `Expected: ${problem.expected}`].filter(Boolean).join(". ") + ".";
  } catch {
    return `The server answered ${response.status}. Try again, or look into its log.`;
  }
}

export const AWAY = "The server does not answer. Is it running, and is this machine online? Try again in a moment.";
