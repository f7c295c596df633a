// What the network reads, and what it believes meanwhile.
import { classColour, colour, prepare } from "./colours.js";

const SIDE = 28;
const STEPS = SIDE * SIDE;
const MILLISECONDS = 1500;

/** After how many pixels the answer was the last one, and stayed so. */
export function decidedAt(steps, probabilities, digit) {
  let first = probabilities.length - 1;
  while (first > 0 && best(probabilities[first - 1]) === digit) first -= 1;
  return steps[first];
}

const best = (row) => row.indexOf(Math.max(...row));

export class Reading {
  constructor(seen, beliefs) {
    this.seen = seen;
    this.beliefs = beliefs;
    this.trace = null;
    this.frame = 0;
  }

  clear() {
    cancelAnimationFrame(this.frame);
    this.trace = null;
    this.draw(0);
  }

  /** Let it read; at once for those who want no motion. `done` is called at the end. */
  play(trace, decided, done) {
    cancelAnimationFrame(this.frame);
    this.trace = trace;
    this.decided = decided;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.draw(STEPS);
      done();
      return;
    }
    const begun = performance.now();
    const tick = (now) => {
      const step = Math.min(STEPS, Math.max(1, Math.round((STEPS * (now - begun)) / MILLISECONDS)));
      this.draw(step);
      if (step < STEPS) this.frame = requestAnimationFrame(tick);
      else done();
    };
    this.frame = requestAnimationFrame(tick);
  }

  /** Draw what is known after so many pixels. */
  draw(step = STEPS) {
    this.step = step;
    this.drawSeen(step);
    this.drawBeliefs(step);
  }

  redraw() {
    this.draw(this.step ?? 0);
  }

  drawSeen(step) {
    const context = this.seen.getContext("2d");
    const image = context.createImageData(SIDE, SIDE);
    const row = Math.floor(Math.min(step, STEPS - 1) / SIDE);
    for (let index = 0; index < STEPS; index += 1) {
      const light = this.trace ? this.trace.pixels[index] : 0;
      const reading = this.trace && step < STEPS && Math.floor(index / SIDE) === row;
      const grey = 255 * light * (index < step ? 1 : 0.35);
      image.data.set(reading ? [grey * 0.6 + 60, grey * 0.6 + 90, 255, 255] : [grey, grey, grey, 255], 4 * index);
      if (index === step && reading) image.data.set([255, 190, 60, 255], 4 * index);
    }
    context.putImageData(image, 0, 0);
  }

  drawBeliefs(step) {
    const { context, width, height } = prepare(this.beliefs);
    const [left, right, top, bottom] = [42, width - 20, 10, height - 24];
    const x = (at) => left + ((right - left) * at) / STEPS;
    const y = (probability) => bottom - (bottom - top) * probability;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour("soft");
    context.strokeStyle = colour("line");
    context.textAlign = "right";
    for (const level of [0, 0.5, 1]) {
      context.fillText(`${100 * level} %`, left - 4, y(level) + 4);
      line(context, left, y(level), right, y(level));
    }
    context.textAlign = "center";
    for (const at of [0, 196, 392, 588, 784]) context.fillText(at, x(at), bottom + 15);
    if (!this.trace) return;
    const { steps, probabilities } = this.trace;
    const shown = steps.filter((at) => at <= step).length;
    if (step >= this.decided) {
      context.setLineDash([4, 4]);
      context.strokeStyle = colour("ink");
      line(context, x(this.decided), top, x(this.decided), bottom);
      context.setLineDash([]);
    }
    for (let digit = 0; digit < 10; digit += 1) {
      context.strokeStyle = context.fillStyle = classColour(String(digit));
      context.lineWidth = 2;
      context.beginPath();
      for (let index = 0; index < shown; index += 1) context.lineTo(x(steps[index]), y(probabilities[index][digit]));
      context.stroke();
      context.lineWidth = 1;
      const last = shown ? probabilities[shown - 1][digit] : 0;
      if (last > 0.08) {
        context.font = "bold 13px system-ui, sans-serif";
        context.fillText(digit, x(steps[shown - 1]) + 9, y(last) + 4);
      }
    }
    this.beliefs.dataset.steps = shown;
  }
}

function line(context, fromX, fromY, toX, toY) {
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
  context.stroke();
}
