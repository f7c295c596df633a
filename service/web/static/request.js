// Asking the server for something.
import { fetchWithKey } from "./key.js";
import { AWAY, describe } from "./problems.js";

/** What `read` makes of a request's answer, such as its JSON; `options` as of `fetchWithKey`. An Error has words for
 * people. */
export async function request(url, read, options) {
  let response;
  try {
    response = await fetchWithKey(url, options);
    if (response.ok) return await read(response);
  } catch {
    throw new Error(AWAY);
  }
  throw new Error(await describe(response));
}
