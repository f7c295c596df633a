// The paper: strokes of a pen, or an image that is put on it.

const PEN = 20; // of 280

export class Paper {
  /** `begun` is called when a stroke begins, `drawn` when it has ended and the paper holds something new. */
  constructor(canvas, begun, drawn) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.pointer = null;
    this.clear();
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.pointer !== null) return;
      event.preventDefault();
      this.pointer = event.pointerId;
      canvas.setPointerCapture(event.pointerId);
      this.last = this.place(event);
      this.line(this.last);
      begun();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== this.pointer) return;
      for (const part of event.getCoalescedEvents?.() ?? [event]) this.line(this.place(part));
      this.line(this.place(event));
    });
    const lift = (event) => {
      if (event.pointerId !== this.pointer) return;
      this.pointer = null;
      drawn();
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
  }

  clear() {
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Show a picture as large as fits. */
  put(bitmap) {
    const { width, height } = this.canvas;
    const scale = Math.min(width / bitmap.width, height / bitmap.height);
    const [columns, rows] = [bitmap.width * scale, bitmap.height * scale];
    this.clear();
    this.context.drawImage(bitmap, (width - columns) / 2, (height - rows) / 2, columns, rows);
    bitmap.close();
  }

  /** What is drawn, as a PNG file. Not by `toBlob`: a browser may leave that until it is idle, on a busy machine for a
   * second. */
  file() {
    const type = "image/png";
    const [, encoded] = this.canvas.toDataURL(type).split(",");
    return new Blob([Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0))], { type });
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  line(to) {
    const { context } = this;
    context.strokeStyle = "#14161c";
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...this.last);
    context.lineTo(...to);
    context.stroke();
    this.last = to;
  }
}
