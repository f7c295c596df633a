// The page's request and its answer, for people to read and to send again.
import { apiKey } from "./key.js";

const INLINE = 2 ** 16; // bytes of a body; shells take no much longer lines
const SHOWN = 32; // characters of a body
const LISTED = 3; // of a list's numbers

const quote = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The command that sends a file as the page does, to the byte: whole, and as it is shown. A large file is named, and
 * so is the key, which neither the screen nor a shell's history should have.
 * @param body the file as `encode` makes it */
export function command(url, headers, file, body) {
  const options = Object.entries(headers).map(([name, value]) => `--header ${quote(`${name}: ${value}`)}`);
  if (apiKey()) options.push('--header "Authorization: Bearer $MOMENTUM_API_KEY"');
  const curl = ["curl", quote(url.href), ...options, "--data-binary"].join(" ");
  if (body === null) {
    const whole = `${curl} ${quote(`@${file.name}`)}`;
    return [whole, whole];
  }
  const line = (text) => `echo ${text} | base64 --decode | ${curl} @-`;
  return [line(body), line(`${body.slice(0, SHOWN)}…(${body.length} characters)`)];
}

/** A JSON answer with the beginnings of its long lists alone. */
export function fold(answer) {
  return JSON.stringify(answer, (name, value) =>
    Array.isArray(value) && value.length > 10 ? [...value.slice(0, LISTED), `… ${value.length - LISTED} more`] : value,
  );
}

/** A file in base64, null if it is too large for a command. */
export async function encode(file) {
  if (file.size > INLINE) return null;
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
