// Waveform and posteriorgram, scrolling together.
import { classColour, colour, onTheme, prepare } from "./colours.js";

const SECONDS = 6;
const COLUMN = 0.01; // seconds
const COLUMNS = SECONDS / COLUMN;
const WAVE = 70; // pixels of height

export class Posteriorgram {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
    addEventListener("resize", () => this.ask());
    onTheme(() => this.ask());
  }

  clear() {
    this.classes = [];
    this.levels = new Map(); // column -> [low, high]; of the last columns only
    this.beliefs = new Map(); // column -> the probability of each class; likewise
    this.recorded = this.heard = 0; // columns
    this.rest = [];
    this.ask();
  }

  /** What the classes are called. What was recorded meanwhile stays. */
  name(classes) {
    this.classes = classes;
    this.ask();
  }

  /** Audio that was recorded. */
  hear(samples, rate) {
    const width = rate * COLUMN;
    for (const value of samples) {
      this.rest.push(value);
      if (this.rest.length >= width) {
        keep(this.levels, this.recorded, [Math.min(...this.rest) / 32768, Math.max(...this.rest) / 32768]);
        this.recorded += 1;
        this.rest = [];
      }
    }
    this.ask();
  }

  /** Frames that were heard, from one at this time on. */
  believe(time, posteriors) {
    const first = Math.round(time / COLUMN);
    posteriors.forEach((row, index) => keep(this.beliefs, first + index, row));
    this.heard = first + posteriors.length;
    this.ask();
  }

  ask() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const { context, width, height } = prepare(this.canvas);
    const left = 46;
    const first = Math.max(0, Math.max(this.recorded, this.heard) - COLUMNS);
    const step = (width - left) / COLUMNS;
    context.fillStyle = colour("accent");
    for (const [column, [low, high]] of this.levels) {
      if (column < first) continue;
      context.fillRect(left + (column - first) * step, WAVE / 2 - (high * WAVE) / 2, Math.max(1, step), Math.max(1, ((high - low) * WAVE) / 2));
    }
    const bottom = height - 18;
    const rowHeight = (bottom - WAVE) / Math.max(1, this.classes.length);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    this.classes.forEach((label, index) => {
      const top = WAVE + index * rowHeight;
      const tint = classColour(label);
      context.fillStyle = tint;
      context.fillText(label, left - 5, top + rowHeight / 2 + 4);
      for (const [column, row] of this.beliefs) {
        if (column < first || row[index] < 0.02) continue;
        context.globalAlpha = row[index];
        context.fillRect(left + (column - first) * step, top, step + 0.5, rowHeight - 1);
      }
      context.globalAlpha = 1;
    });
    context.fillStyle = colour("soft");
    context.textAlign = "center";
    for (let second = Math.ceil(first * COLUMN); second <= first * COLUMN + SECONDS; second += 1) {
      context.fillText(`${second} s`, Math.min(width - 14, left + (second / COLUMN - first) * step), height - 4);
    }
    this.canvas.dataset.frames = this.heard;
  }
}

/** Columns come in order, so the first are the oldest. */
function keep(map, column, value) {
  map.set(column, value);
  for (const old of map.keys()) {
    if (old > column - COLUMNS) break;
    map.delete(old);
  }
}
