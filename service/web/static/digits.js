// Drawing a digit, or choosing an image of one, and having it read.
import { onTheme } from "./colours.js";
import { command, encode, fold } from "./command.js";
import { offer } from "./copy.js";
import { Paper } from "./paper.js";
import { show, tooLarge } from "./problems.js";
import { Reading, decidedAt } from "./reading.js";
import { request } from "./request.js";

const URL_OF_DIGITS = new URL("v1/digits", document.baseURI);

async function textAndJson(response) {
  const text = await response.text();
  return [text, JSON.parse(text)];
}

export function startDigits() {
  const element = (id) => document.getElementById(id);
  const [answer, note, problem] = [element("digit"), element("digit-note"), element("digits-problem")];
  const reading = new Reading(element("seen"), element("beliefs"));
  const [caption, invitation] = [element("decided").textContent, note.textContent];
  let asked = 0; // what becomes ready after something else was begun is not shown

  const paper = new Paper(element("paper"), forget, () => ask(paper.file(), forget()));

  /** Something new begins; returns its number. */
  function forget() {
    show(problem, null);
    return (asked += 1);
  }

  /** Take back how the last picture was read. */
  function unread() {
    reading.clear();
    element("decided").textContent = caption;
  }

  /** Take back the last answer. */
  function unanswer(text) {
    unread();
    answer.textContent = "?";
    note.textContent = text;
    offer(element("digits-curl"), null, "Draw something first.");
    offer(element("digits-json"), null, "");
  }

  async function ask(file, mine) {
    unread();
    const url = new URL(URL_OF_DIGITS);
    url.searchParams.set("trace", 1);
    const headers = { "Content-Type": file.type || "image/*" };
    let text, result, body;
    try {
      [[text, result], body] = await Promise.all([
        request(url, textAndJson, { method: "POST", body: file, headers }),
        encode(file),
      ]);
    } catch (error) {
      if (mine !== asked) return;
      show(problem, error.message);
      unanswer("");
      return;
    }
    if (mine !== asked) return;
    offer(element("digits-curl"), ...command(url, headers, file, body));
    offer(element("digits-json"), text, fold(result));
    tell(result);
  }

  function tell({ trace, ...result }) {
    const decided = decidedAt(trace.steps, trace.probabilities, result.digit);
    answer.textContent = result.digit;
    note.textContent = `${(100 * result.probabilities[result.digit]).toFixed(1)} % sure, in ${result.milliseconds.toFixed(0)} ms`;
    reading.play(trace, decided, () => {
      element("decided").textContent = `It made up its mind after pixel ${decided} of 784.`;
    });
  }

  async function choose(file) {
    if (!file) return;
    const mine = forget();
    const refused = tooLarge(file, "an image");
    if (refused) {
      show(problem, refused);
      return;
    }
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      if (mine === asked) show(problem, `${file.name} is no image that this browser can read. Choose a PNG, JPEG, WebP, GIF or BMP file.`);
      return;
    }
    if (mine !== asked) return;
    paper.put(bitmap);
    await ask(file, mine);
  }

  element("clear").addEventListener("click", () => {
    forget();
    paper.clear();
    unanswer(invitation);
  });
  element("image").addEventListener("change", (event) => {
    choose(event.target.files[0]);
    event.target.value = "";
  });
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    element("paper").addEventListener(kind, (event) => {
      event.preventDefault();
      element("paper").classList.toggle("over", over);
      if (kind === "drop") choose(event.dataTransfer.files[0]);
    });
  }
  for (const kind of ["dragover", "drop"]) {
    // a file that misses the paper would be opened instead of the page
    document.addEventListener(kind, (event) => {
      if (event.dataTransfer.types.includes("Files")) event.preventDefault();
    });
  }
  addEventListener("resize", () => reading.redraw());
  onTheme(() => reading.redraw());
  reading.clear();
}
