// Speech: from the microphone or a recording, live.
import { classColour } from "./colours.js";
import { Posteriorgram } from "./posteriorgram.js";
import { AWAY, show } from "./problems.js";
import { openMicrophone, openRecording } from "./sources.js";
import { LiveStream } from "./stream.js";

const MEGABYTES = 16;
const LISTED = 200;
const SHORTEST = 0.05; // seconds; what is shorter is a change of mind, and no word

export function startFrames() {
  const element = (id) => document.getElementById(id);
  const [label, note, problem, segments] = ["label", "frames-note", "frames-problem", "segments"].map(element);
  const [microphone, stop] = [element("microphone"), element("stop")];
  const picture = new Posteriorgram(element("posteriorgram"));
  let source = null;
  let stream = null;

  function say(text) {
    label.textContent = text;
    label.classList.toggle("word", text.length > 2);
    label.style.color = /^[0-9]$/.test(text) ? classColour(text) : "";
  }

  function begin(opened) {
    source = opened;
    segments.replaceChildren();
    picture.clear([]);
    say("…");
    note.textContent = "Listening";
    stop.disabled = false;
    const live = (stream = new LiveStream(source.rate, {
      started: ({ classes }) => picture.classes.length || picture.clear(classes),
      frames({ time, labels, posteriors }) {
        picture.believe(time, posteriors);
        const last = labels.at(-1);
        say(/^[0-9]$/.test(last) ? last : "…");
      },
      segment: list,
      result({ utterance }) {
        release();
        if (utterance) {
          say(utterance.label);
          note.textContent = `In all most like “${utterance.label}” (${(100 * utterance.probability).toFixed(0)} %)`;
        } else {
          say("–");
          note.textContent = "Nothing was heard";
        }
      },
      away(reason = "The connection is lost. Coming back, and keeping what is said meanwhile.") {
        show(problem, reason);
      },
      back() {
        show(problem, null);
        note.textContent = "Connected again";
      },
      problem(text) {
        release();
        show(problem, text);
        note.textContent = "";
      },
    }));
    source.start(
      (samples) => {
        picture.hear(samples, opened.rate);
        live.feed(samples);
      },
      () => live.finish(),
    );
  }

  function list({ label: name, start, end, probability }) {
    if (!/^[0-9]$/.test(name) || end - start < SHORTEST) return;
    const item = document.createElement("li");
    const strong = document.createElement("b");
    strong.textContent = name;
    strong.style.color = classColour(name);
    item.append(strong, ` ${start.toFixed(2)}–${end.toFixed(2)} s, ${(100 * probability).toFixed(0)} %`);
    segments.append(item);
    while (segments.children.length > LISTED) segments.firstChild.remove();
    segments.scrollTop = segments.scrollHeight;
  }

  /** No more audio. */
  function release() {
    source?.stop();
    source = null;
    stop.disabled = true;
    microphone.setAttribute("aria-pressed", "false");
  }

  /** Open a source instead of what plays. */
  async function play(open) {
    release();
    stream?.close();
    show(problem, null);
    try {
      begin(await open());
      return true;
    } catch (error) {
      show(problem, error instanceof TypeError ? AWAY : error.message);
      return false;
    }
  }

  microphone.addEventListener("click", async () => {
    if (microphone.getAttribute("aria-pressed") === "true") {
      release();
      stream.finish();
    } else if (await play(openMicrophone)) {
      microphone.setAttribute("aria-pressed", "true");
    }
  });
  stop.addEventListener("click", () => {
    release();
    stream.finish();
  });
  for (const example of document.querySelectorAll(".example")) {
    example.addEventListener("click", () =>
      play(async () => openRecording(await (await fetch(example.dataset.url)).arrayBuffer())),
    );
  }
  element("recording").addEventListener("change", (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (!file) return;
    play(async () => {
      if (file.size > MEGABYTES * 2 ** 20) {
        throw new Error(`${file.name} has ${(file.size / 2 ** 20).toFixed(0)} MB. Choose a recording of at most ${MEGABYTES} MB.`);
      }
      return openRecording(await file.arrayBuffer());
    });
  });
}
