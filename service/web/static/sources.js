// Where audio comes from: the microphone, or a recording played in real time. Each calls `feed` with pcm16, and
// `ended` when there is no more, with words if that is a problem.
import { AWAY } from "./problems.js";

const RATE = 8000; // recordings are resampled to it; the server resamples what the microphone gives
const LONGEST = 120; // seconds of a recording

/** Words for why there is no microphone. */
function refusal(error) {
  if (error.name === "NotAllowedError") return "The microphone was refused. Allow it in the browser's address bar, or play an example.";
  if (error.name === "NotFoundError") return "This machine has no microphone. Upload a recording, or play an example.";
  return `The microphone cannot be used (${error.message}). Upload a recording, or play an example.`;
}

export async function openMicrophone() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give microphones to pages from https and from localhost only. Open this page as http://localhost:… or play an example.");
  }
  let media;
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
  } catch (error) {
    throw new Error(refusal(error));
  }
  const context = new AudioContext();
  const stop = () => {
    media.getTracks().forEach((track) => track.stop());
    context.close();
  };
  try {
    await context.audioWorklet.addModule("web/worklet.js");
  } catch {
    stop(); // else the browser goes on showing that it listens
    throw new Error(AWAY);
  }
  await context.resume();
  return {
    rate: context.sampleRate,
    stop,
    start(feed, ended) {
      const gather = new AudioWorkletNode(context, "gather", { numberOfOutputs: 0 });
      gather.port.onmessage = ({ data }) => feed(data);
      context.createMediaStreamSource(media).connect(gather);
      media.getTracks().forEach((track) => {
        track.onended = () => ended("The microphone went away. Plug it in, or allow it, and press Microphone again.");
      });
    },
  };
}

/** @param {ArrayBuffer} data an audio file */
export async function openRecording(data) {
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(data);
  } catch {
    throw new Error("This is no recording that this browser can read. Choose a WAV, FLAC, OGG or MP3 file.");
  }
  if (decoded.duration > LONGEST) {
    throw new Error(`The recording has ${decoded.duration.toFixed(0)} seconds. Choose one of at most ${LONGEST}, or send it to the API.`);
  }
  const samples = new Int16Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel += 1) {
    const values = decoded.getChannelData(channel);
    values.forEach((value, index) => {
      const level = (32768 * value) / decoded.numberOfChannels;
      samples[index] = Math.max(-32768, Math.min(32767, Math.round(samples[index] + level)));
    });
  }
  const context = new AudioContext();
  let timer;
  return {
    rate: RATE,
    start(feed, ended) {
      const player = new AudioBufferSourceNode(context, { buffer: decoded });
      player.connect(context.destination);
      player.start();
      const begun = performance.now();
      let sent = 0;
      timer = setInterval(() => {
        const due = Math.min(samples.length, Math.round(((performance.now() - begun) / 1000) * RATE));
        if (due > sent) feed(samples.slice(sent, due));
        sent = due;
        if (sent === samples.length) {
          clearInterval(timer);
          ended();
        }
      }, 100);
    },
    stop() {
      clearInterval(timer);
      context.close();
    },
  };
}
