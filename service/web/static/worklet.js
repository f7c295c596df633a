// In the audio thread: gathers what the microphone gives into pieces of a tenth of a second, as pcm16.
class Gather extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate / 10));
    this.count = 0;
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      this.piece[this.count++] = Math.max(-32768, Math.min(32767, Math.round(32768 * value)));
      if (this.count === this.piece.length) {
        this.port.postMessage(this.piece.slice());
        this.count = 0;
      }
    }
    return true;
  }
}
registerProcessor("gather", Gather);
