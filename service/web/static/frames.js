// Speech: from the microphone or a recording, live.
import { Posteriorgram } from "./posteriorgram.js";
import { show, tooLarge } from "./problems.js";
import { request } from "./request.js";
import { openMicrophone, openRecording } from "./sources.js";
import { LiveStream } from "./stream.js";

const LISTED = 200;
const SHORTEST = 0.05; // seconds; what is shorter is a change of mind, and no word
const ANSWERED = 9; // digits that the large answer has room for

const isDigit = (text) => /^[0-9]$/.test(text);

export function startFrames() {
  const element = (id) => document.getElementById(id);
  const [label, note, problem, segments] = ["label", "frames-note", "frames-problem", "segments"].map(element);
  const [microphone, stop] = [element("microphone"), element("stop")];
  const picture = new Posteriorgram(element("posteriorgram"));
  const invitation = note.textContent;
  let source = null;
  let stream = null;
  let heard = []; // the digits listed
  let asked = 0; // a source that opens after another was asked for is not wanted any more

  function say(text) {
    if (label.textContent === text) return;
    label.textContent = text;
    label.classList.toggle("several", text.length > 1);
    label.style.color = isDigit(text) ? `var(--c${text})` : "";
  }

  function conclude(utterance) {
    if (heard.length > 1) {
      say([...(heard.length > ANSWERED ? ["…"] : []), ...heard.slice(-ANSWERED)].join(" "));
      note.textContent = `Done: ${heard.length} digits`;
    } else if (utterance && isDigit(utterance.label)) {
      say(utterance.label);
      note.textContent = `Done: “${utterance.label}”, ${(100 * utterance.probability).toFixed(0)} % sure`;
    } else {
      say("–");
      note.textContent = "Done: no digit was heard";
    }
  }

  function begin(opened) {
    source = opened;
    heard = [];
    segments.replaceChildren();
    picture.clear();
    say("…");
    note.textContent = "Listening";
    stop.disabled = false;
    const live = (stream = new LiveStream(source.rate, {
      started: ({ classes }) => picture.name(classes),
      frames({ time, labels, posteriors }) {
        picture.believe(time, posteriors);
        const last = labels.at(-1);
        say(isDigit(last) ? last : "…");
      },
      segment: list,
      result({ utterance }) {
        release();
        conclude(utterance);
      },
      away(reason = "The connection is lost. Coming back, and keeping what is said meanwhile.") {
        show(problem, reason);
      },
      back() {
        show(problem, null);
        note.textContent = "Connected again";
      },
      tell: (text) => show(problem, text),
      problem(text) {
        release();
        fail(text);
      },
    }));
    source.start(
      (samples) => {
        if (source !== opened) return; // what was on its way when it was stopped
        picture.hear(samples, opened.rate);
        live.feed(samples);
      },
      (trouble) => {
        if (source !== opened) return;
        if (trouble) {
          release();
          show(problem, trouble);
        }
        live.finish();
      },
    );
  }

  function list({ label: name, start, end, probability }) {
    if (!isDigit(name) || end - start < SHORTEST) return;
    heard.push(name);
    const item = document.createElement("li");
    const strong = document.createElement("b");
    strong.textContent = name;
    strong.style.color = `var(--c${name})`;
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

  function fail(text) {
    show(problem, text);
    say("–");
    note.textContent = invitation;
  }

  /** Open a source instead of what plays. */
  async function play(open) {
    const mine = (asked += 1);
    release();
    stream?.close();
    show(problem, null);
    let opened;
    try {
      opened = await open();
    } catch (error) {
      if (mine === asked) fail(error.message);
      return false;
    }
    if (mine !== asked) {
      opened.stop();
      return false;
    }
    begin(opened);
    return true;
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
      play(async () => openRecording(await request(example.dataset.url, (response) => response.arrayBuffer()))),
    );
  }
  element("recording").addEventListener("change", (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (!file) return;
    play(async () => {
      const refused = tooLarge(file, "a recording");
      if (refused) throw new Error(refused);
      return openRecording(await file.arrayBuffer());
    });
  });
}
