// The engine's strip: what is served, and how it does.
import { request } from "./request.js";

const SECONDS = 2;
const PATIENCE = 5000; // milliseconds

const percent = ({ name, value }) => `${name.replaceAll("_", " ")} ${(100 * value).toFixed(1)} %`;
const milliseconds = (seconds) => (seconds === null ? "–" : `${(1000 * seconds).toFixed(1)} ms`);

function rows(status) {
  const { recent, queue, lanes, device } = status;
  return [
    ...status.models.map((model) => [
      `Model ${model.name}, version ${model.version}`,
      model.metrics.filter(({ split }) => split === "test").map(percent).join("\n") || model.description,
    ]),
    ["Device", `${device.device}, onnxruntime ${device.onnxruntime}, ${lanes.count} lanes`],
    ["Requests a second", recent.requests_per_second.toFixed(1)],
    ["Rows run together", recent.batch_rows === null ? "–" : recent.batch_rows.toFixed(1)],
    ["In the engine, median and p99", `${milliseconds(recent.p50_seconds)}, ${milliseconds(recent.p99_seconds)}`],
    ["Waiting", `${queue.requests}`],
    ["Live streams", `${status.streams.open}`],
    ["State", status.ready ? "ready" : `not ready: ${status.problems.join("; ")}`],
  ];
}

export function startStatus() {
  const list = document.getElementById("status");

  function write(entries) {
    while (list.children.length > entries.length) list.lastChild.remove();
    entries.forEach(([name, value], index) => {
      const group = list.children[index] ?? list.appendChild(document.createElement("div"));
      if (!group.firstChild) group.append(document.createElement("dt"), document.createElement("dd"));
      for (const [part, text] of [[group.firstChild, name], [group.lastChild, value]]) {
        if (part.textContent !== text) part.textContent = text; // a screen reader may be reading it
      }
    });
  }

  async function look() {
    if (!document.hidden) {
      try {
        write(rows(await request("v1/status", (response) => response.json(), { patience: PATIENCE, asks: false })));
      } catch (error) {
        write([["State", error.message]]);
      }
    }
    setTimeout(look, 1000 * SECONDS);
  }

  look();
}
