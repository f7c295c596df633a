// One live stream to the server, whatever becomes of the connection.
import { describe } from "./problems.js";

const URL_OF_STREAM = new URL("v1/frames/stream", document.baseURI);
URL_OF_STREAM.protocol = URL_OF_STREAM.protocol.replace("http", "ws");

const KEPT_SECONDS = 60; // of audio, to be sent again
const DELAYS = [200, 400, 800, 1500]; // milliseconds until the next attempt; then the last again and again

/** Tells `on` what happens: started(message), frames(message), segment(message), result(message), away(reason),
 * back(reason), problem(text). Times in the messages count from the beginning of the audio. */
export class LiveStream {
  constructor(rate, on) {
    this.rate = rate;
    this.on = on;
    this.chunks = []; // Int16Array each, not known to be heard
    this.first = 0; // the number of the first sample in them
    this.next = 0; // the number of the sample to be sent next
    this.base = 0; // the sample that is the server's first: not 0 after it forgot the stream
    this.token = null;
    this.finishing = this.ended = false;
    this.attempts = 0;
    this.connect();
  }

  /** Give samples, pcm16. */
  feed(samples) {
    if (this.ended || this.finishing) return;
    this.chunks.push(samples);
    while (this.first < this.next && this.total() - this.first > KEPT_SECONDS * this.rate) this.drop();
    if (this.total() - this.next > KEPT_SECONDS * this.rate) {
      this.fail("The server has been away for too long. Start again.");
      return;
    }
    this.send();
  }

  /** There is no more. */
  finish() {
    this.finishing = true;
    this.send();
  }

  /** Stop listening to the server. */
  close() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  total() {
    return this.first + this.chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  drop() {
    this.first += this.chunks.shift().length;
  }

  connect() {
    const socket = (this.socket = new WebSocket(URL_OF_STREAM));
    this.open = false;
    socket.onopen = () => {
      const start = { type: "start", sample_rate: this.rate, encoding: "pcm16", probabilities: true };
      socket.send(JSON.stringify(this.token ? { type: "resume", token: this.token } : start));
    };
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = () => {
      if (socket === this.socket && !this.ended) this.retry();
    };
  }

  async retry() {
    this.open = false;
    if (this.attempts === 0) {
      this.on.away();
      await this.ask();
      if (this.ended) return;
    }
    const delay = DELAYS[Math.min(this.attempts, DELAYS.length - 1)];
    this.attempts += 1;
    this.timer = setTimeout(() => this.connect(), delay);
  }

  /** A browser does not tell why a WebSocket was refused, but why another request is. */
  async ask() {
    try {
      const response = await fetch(new URL("v1/frames/stream", document.baseURI));
      if (response.status === 401 || response.status === 403) this.fail(await describe(response));
    } catch {
      // it is away
    }
  }

  receive(message) {
    if (message.resume) this.token = message.resume;
    switch (message.type) {
      case "started":
        this.sampleRate = message.sample_rate;
        this.hop = message.hop_seconds;
        this.on.started(message);
        this.goOn(this.base);
        break;
      case "resumed":
        this.goOn(this.base + message.samples);
        break;
      case "frames":
        this.heard = this.base / this.rate + (message.start + message.labels.length) * this.hop;
        this.on.frames({ ...message, time: message.time + this.base / this.rate });
        break;
      case "segment":
        this.on.segment({
          ...message,
          start: message.start + this.base / this.rate,
          end: message.end + this.base / this.rate,
        });
        break;
      case "result":
        this.ended = true;
        this.on.result(message);
        break;
      case "error":
        this.refused(message);
    }
  }

  /** Send on with this sample. */
  goOn(sample) {
    if (this.attempts) this.on.back();
    this.attempts = 0;
    this.open = true;
    this.next = Math.max(sample, this.first);
    this.finished = false;
    this.send();
  }

  refused(message) {
    if (message.code === "unknown_stream" || message.code === "messages_gone") {
      // the server was started anew: begin a new stream with what it has not heard
      this.token = null;
      const sample = Math.max(this.first, Math.round((this.heard ?? 0) * this.rate));
      this.base = this.next = sample;
      this.on.away("The server was started anew and has forgotten the stream. Beginning a new one.");
    } else if (message.code === "too_many_streams") {
      this.on.away(`The server has as many streams as it takes. Trying again in ${message.retry_seconds} seconds.`);
      this.attempts = DELAYS.length;
    } else if (!message.resume) {
      this.fail([message.detail, message.expected && `Expected: ${message.expected}`].filter(Boolean).join(". ") + ".");
    }
  }

  send() {
    if (!this.open || this.socket.readyState !== WebSocket.OPEN) return;
    let start = this.first;
    for (const chunk of this.chunks) {
      const rest = this.next - start;
      if (rest < chunk.length) {
        this.socket.send(rest > 0 ? chunk.subarray(rest) : chunk);
        this.next = start + chunk.length;
      }
      start += chunk.length;
    }
    if (this.finishing && !this.finished) {
      this.finished = true;
      this.socket.send(JSON.stringify({ type: "finish" }));
    }
  }

  fail(text) {
    this.close();
    this.on.problem(text);
  }
}
