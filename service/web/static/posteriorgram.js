// Waveform and posteriorgram, scrolling together.
import { classColour, colour, onTheme, prepare } from "./colours.js";

const SECONDS = 6;
const COLUMN = 0.01; // seconds
const WAVE = 70; // pixels of height

export class Posteriorgram {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear([]);
    addEventListener("resize", () => this.ask());
    onTheme(() => this.ask());
  }

  clear(classes) {
    this.classes = classes;
    this.levels = []; // [low, high] of each hundredth of a second
    this.rest = [];
    this.beliefs = []; // by frame
    this.ask();
  }

  /** Audio that was recorded. */
  hear(samples, rate) {
    const width = rate * COLUMN;
    for (const value of samples) {
      this.rest.push(value);
      if (this.rest.length >= width) {
        this.levels.push([Math.min(...this.rest) / 32768, Math.max(...this.rest) / 32768]);
        this.rest = [];
      }
    }
    this.ask();
  }

  /** Frames that were heard, from one at this time on. */
  believe(time, posteriors) {
    const first = Math.round(time / COLUMN);
    posteriors.forEach((row, index) => (this.beliefs[first + index] = row));
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
    const columns = SECONDS / COLUMN;
    const first = Math.max(0, Math.max(this.levels.length, this.beliefs.length) - columns);
    const step = (width - left) / columns;
    context.fillStyle = colour("accent");
    for (let column = first; column < this.levels.length; column += 1) {
      const [low, high] = this.levels[column];
      context.fillRect(left + (column - first) * step, WAVE / 2 - (high * WAVE) / 2, Math.max(1, step), Math.max(1, ((high - low) * WAVE) / 2));
    }
    const bottom = height - 18;
    const row = (bottom - WAVE) / Math.max(1, this.classes.length);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    this.classes.forEach((label, index) => {
      const top = WAVE + index * row;
      const tint = classColour(label);
      context.fillStyle = tint;
      context.fillText(label, left - 5, top + row / 2 + 4);
      for (let column = first; column < this.beliefs.length; column += 1) {
        const belief = this.beliefs[column]?.[index] ?? 0;
        if (belief < 0.02) continue;
        context.globalAlpha = belief;
        context.fillRect(left + (column - first) * step, top, step + 0.5, row - 1);
      }
      context.globalAlpha = 1;
    });
    context.fillStyle = colour("soft");
    context.textAlign = "center";
    for (let second = Math.ceil(first * COLUMN); second <= first * COLUMN + SECONDS; second += 1) {
      context.fillText(`${second} s`, Math.min(width - 14, left + (second / COLUMN - first) * step), height - 4);
    }
    this.canvas.dataset.frames = this.beliefs.length;
  }
}
