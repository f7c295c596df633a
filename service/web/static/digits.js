// Drawing a digit, or choosing an image of one, and having it read.
import { onTheme } from "./colours.js";
import { Paper } from "./paper.js";
import { AWAY, describe, show } from "./problems.js";
import { Reading, decidedAt } from "./reading.js";

const URL_OF_DIGITS = new URL("v1/digits", document.baseURI);
const MEGABYTES = 16;

export function startDigits() {
  const element = (id) => document.getElementById(id);
  const [answer, note, problem] = [element("digit"), element("digit-note"), element("digits-problem")];
  const reading = new Reading(element("seen"), element("beliefs"));
  const caption = element("decided").textContent;
  let asked = 0; // answers to what has been drawn over are not shown

  const paper = new Paper(element("paper"), forget, async () => ask(await paper.file()));

  function forget() {
    asked += 1;
    show(problem, null);
  }

  function clear() {
    forget();
    paper.clear();
    reading.clear();
    answer.textContent = "?";
    note.textContent = "Draw, and lift the pen";
    element("decided").textContent = caption;
    element("digits-curl").textContent = "Draw something first.";
    element("digits-json").textContent = "";
  }

  async function ask(file) {
    const mine = (asked += 1);
    try {
      const url = new URL(URL_OF_DIGITS);
      url.searchParams.set("trace", 1);
      const response = await fetch(url, { method: "POST", body: file, headers: { "Content-Type": file.type || "image/*" } });
      if (mine !== asked) return;
      if (!response.ok) throw new Error(await describe(response));
      tell(await response.json(), mine);
    } catch (error) {
      if (mine !== asked) return;
      show(problem, error instanceof TypeError ? AWAY : error.message);
      answer.textContent = "?";
      note.textContent = "";
    }
  }

  function tell({ trace, ...result }, mine) {
    if (mine !== asked) return;
    const decided = decidedAt(trace.steps, trace.probabilities, result.digit);
    answer.textContent = result.digit;
    note.textContent = `${(100 * result.probabilities[result.digit]).toFixed(1)} % sure, in ${result.milliseconds.toFixed(0)} ms`;
    const pixels = trace.pixels.map((light) => Math.round(255 * light));
    element("digits-curl").textContent =
      `curl ${URL_OF_DIGITS} --header 'Content-Type: application/json' --data '{"pixels": ${JSON.stringify(pixels)}}'`;
    element("digits-json").textContent = JSON.stringify(result);
    reading.play(trace, decided, () => {
      element("decided").textContent = `It made up its mind after pixel ${decided} of 784.`;
    });
  }

  async function choose(file) {
    if (!file) return;
    forget();
    if (file.size > MEGABYTES * 2 ** 20) {
      show(problem, `${file.name} has ${(file.size / 2 ** 20).toFixed(0)} MB. Choose an image of at most ${MEGABYTES} MB.`);
      return;
    }
    try {
      await paper.put(file);
    } catch {
      show(problem, `${file.name} is no image that this browser can read. Choose a PNG, JPEG, WebP, GIF or BMP file.`);
      return;
    }
    await ask(file);
  }

  element("clear").addEventListener("click", clear);
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
  addEventListener("resize", () => reading.redraw());
  onTheme(() => reading.redraw());
  reading.clear();
}
