// One live stream to the server, whatever becomes of the connection.
import { apiKey, asksForKey, fetchWithKey, subprotocols } from "./key.js";
import { describe, words } from "./problems.js";

const URL_OF_STREAM = new URL("v1/frames/stream", document.baseURI);
const URL_OF_SOCKET = new URL(URL_OF_STREAM);
URL_OF_SOCKET.protocol = URL_OF_SOCKET.protocol.replace("http", "ws");

const KEPT_SECONDS = 60; // of audio, to be sent again
const KEY_SECONDS = 600; // of audio that is kept besides, while people look for their key
const DELAYS = [200, 400, 800, 1500]; // milliseconds until the next attempt; then the last again and again
const CONNECT_MS = 5000; // for a connection to be answered
const SILENCE_MS = 4000; // for audio to be answered: a network that is gone closes no socket
const ASK_MS = 1000;
// Errors after which the same audio is welcome again, be it with another key.
const PASSING = ["shutting_down", "moved", "not_reading", "key_revoked"];

/** Tells `on` what happens: started(message), frames(message), segment(message), result(message), away(reason),
 * back(), tell(text), problem(text). Times in the messages count from the beginning of the audio. */
export class LiveStream {
  constructor(rate, on) {
    this.rate = rate;
    this.on = on;
    this.chunks = []; // Int16Array each, not known to be heard
    this.excused = 0; // samples that came while people were asked for a key: no fault of the server
    this.first = 0; // the number of the first sample in them
    this.next = 0; // the number of the sample to be sent next
    this.base = 0; // the sample that is the server's first: not 0 after it forgot the stream
    this.token = null;
    this.finishing = this.ended = false;
    this.full = null; // why the server takes no more audio
    this.attempts = 0;
    this.gone = false; // whether the server is away, as was told
    this.delay = null; // milliseconds that the server wants to be left alone
    this.online = () => this.open || this.connect();
    addEventListener("online", this.online);
    this.connect();
  }

  /** Give samples, pcm16. */
  feed(samples) {
    if (this.ended || this.finishing) return;
    this.chunks.push(samples);
    while (this.first < this.next && this.total() - this.first > KEPT_SECONDS * this.rate) this.drop();
    if (asksForKey() && this.excused < KEY_SECONDS * this.rate) this.excused += samples.length;
    if (this.total() - this.next - this.excused > KEPT_SECONDS * this.rate) {
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
    removeEventListener("online", this.online);
    this.hangUp();
  }

  total() {
    return this.first + this.chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  drop() {
    this.first += this.chunks.shift().length;
  }

  connect() {
    this.hangUp();
    this.delay = null;
    const socket = (this.socket = new WebSocket(URL_OF_SOCKET, subprotocols()));
    socket.onopen = () => {
      if (socket !== this.socket) return;
      const start = { type: "start", sample_rate: this.rate, encoding: "pcm16", probabilities: true };
      socket.send(JSON.stringify(this.token ? { type: "resume", token: this.token } : start));
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.socket) this.receive(JSON.parse(data));
    };
    socket.onclose = () => {
      if (socket === this.socket) this.retry();
    };
    this.expect(CONNECT_MS);
  }

  /** Drop the connection, and what was waited for. What it still has to say is not listened to. */
  hangUp() {
    clearTimeout(this.timer);
    this.timer = null;
    const { socket } = this;
    this.socket = null;
    this.open = false;
    socket?.close();
  }

  /** Connect anew unless the server says something in time. */
  expect(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.retry(), milliseconds);
  }

  /** Connect anew, soon.
   * @param told whether the server has said why, so that the connection's end needs no other words */
  async retry(told = false) {
    const lost = this.open;
    this.hangUp();
    this.attempts += 1;
    if (!told) {
      if (lost) this.away();
      told = await this.ask();
      if (this.ended || this.socket) return;
      if (!lost && !told && this.attempts === 1) this.away();
    }
    clearTimeout(this.timer);
    const delay = this.delay ?? DELAYS[Math.min(this.attempts, DELAYS.length) - 1];
    this.timer = setTimeout(() => this.connect(), delay);
  }

  /** A browser does not tell why a WebSocket was refused, but why another request is. Returns whether that was told. */
  async ask() {
    const used = apiKey();
    let response;
    try {
      response = await fetchWithKey(URL_OF_STREAM, { patience: ASK_MS });
    } catch {
      return false; // it is away
    }
    if (this.ended) return false;
    const refused = response.status === 401 || response.status === 403;
    if (!refused && apiKey() !== used) {
      this.connect();
      return true;
    }
    if (response.status < 400 || [404, 405, 426].includes(response.status)) return false;
    const text = await describe(response);
    if (this.ended) return false;
    if (refused) {
      this.fail(text);
    } else {
      this.delay = 1000 * response.headers.get("Retry-After") || null;
      this.away(text);
    }
    return true;
  }

  receive(message) {
    clearTimeout(this.timer);
    this.timer = null;
    if (message.resume) this.token = message.resume;
    switch (message.type) {
      case "started":
        this.most = Math.floor(message.limits.message_bytes / Int16Array.BYTES_PER_ELEMENT);
        this.longest = message.limits.audio_seconds;
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
        this.close();
        this.on.result(message);
        if (this.full) this.on.tell(this.full);
        break;
      case "error":
        this.refused(message);
    }
    if (this.open && this.finished) this.expect(SILENCE_MS);
  }

  /** Send on with this sample. */
  goOn(sample) {
    if (this.gone) this.on.back();
    this.gone = false;
    this.attempts = this.excused = 0;
    this.open = true;
    this.next = Math.max(sample, this.first);
    this.finished = false;
    this.send();
  }

  /** The server says what is wrong, and closes the connection. */
  refused(message) {
    if (message.code === "unknown_stream" || message.code === "messages_gone") {
      // begin a new stream with what was not heard of
      this.token = null;
      const sample = Math.max(this.first, Math.round((this.heard ?? 0) * this.rate));
      this.base = this.next = sample;
      this.away(
        message.code === "unknown_stream"
          ? "The server does not know the stream any more. Beginning a new one with what it has not heard."
          : "More answers were missed than the server keeps. Beginning a new stream with what is missing.",
      );
    } else if (message.retry_seconds) {
      this.delay = 1000 * message.retry_seconds;
      this.away(`${message.detail}. Trying again in ${message.retry_seconds} seconds.`);
    } else if (message.code === "audio_too_long") {
      this.full = `The server takes at most ${this.longest} seconds of audio, and has heard them. Start again to go on.`;
      this.finishing = true;
      this.away(this.full);
    } else if (!PASSING.includes(message.code)) {
      this.fail(words(message));
      return;
    }
    this.retry(!PASSING.includes(message.code));
  }

  away(reason) {
    this.gone = true;
    this.on.away(reason);
  }

  send() {
    if (!this.open || this.socket.readyState !== WebSocket.OPEN) return;
    const sent = this.next;
    if (!this.full) this.sendAudio();
    if (this.finishing && !this.finished) {
      this.finished = true;
      this.socket.send(JSON.stringify({ type: "finish" }));
    }
    if (this.timer === null && (this.finished || this.next > sent)) this.expect(SILENCE_MS);
  }

  sendAudio() {
    let start = this.first;
    for (const chunk of this.chunks) {
      const end = start + chunk.length;
      while (this.next < end) {
        const rest = this.next - start;
        const piece = chunk.subarray(rest, rest + this.most);
        this.socket.send(piece);
        this.next += piece.length;
      }
      start = end;
    }
  }

  fail(text) {
    this.close();
    this.on.problem(text);
  }
}
