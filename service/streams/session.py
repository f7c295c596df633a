"""A live stream: audio goes in, messages come out, whatever becomes of the connection between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import structlog

from service.engine import Answer, Engine, LaneDiedError, Model, Request, Tensor
from service.frames.audio import Waveform
from service.frames.routes import timing
from service.frames.transcript import Segment, Transcript
from service.settings import Settings
from service.streams.outbox import Outbox
from service.streams.pcm import PCMDecoder
from service.streams.registry import Kind, Reason
from service.streams.snapshot import Array, ModelName, Snapshot

log = structlog.get_logger(__name__)

_MOST_DEATHS = 2  # of lanes in a row; what kills three is probably the stream
STEP_SECONDS = 1  # of audio in one inference at most, so that a stream that is behind does not hold up others

_NONE = np.empty(0, np.float32)


class AudioTooLongError(ValueError):
    """A stream of more audio than one may have."""


class NotMovableError(RuntimeError):
    """A stream that can't go on elsewhere; the message says why."""


class Listener(Protocol):
    """The connection that carries a stream."""

    def notify(self) -> None:
        """There are messages to send, or there is room for audio again."""

    def end(self, reason: Reason) -> None:
        """The stream has ended, or another connection carries it; do not touch it any more."""


@dataclass(frozen=True)
class Remains:
    """What is remembered of a stream.

    Attributes:
        secret: what its tokens began with.
        samples: how many it had taken.
    """

    secret: str
    samples: int


class Session:
    """One stream, from its start to its result.

    Whole frames are cut from the audio and run through the model, one inference at a time. Audio that arrives
    meanwhile is joined for the next.

    Args:
        name: of the stream, in messages and in the log.
        engine: runs the model.
        model: hears the audio; one that `frames.check` passed.
        decoder: of the audio.
        outbox: takes the messages.
        posteriors: whether each frame's probability of each class is told.
        settings: the limits.
        time: the clock.
        end: is called once, when the result is in the outbox or when the inference failed.

    Attributes:
        kind, key, name: as the registry, and as the log, knows it.
        model: as given.
        outbox: as given.
        listener: the connection that carries the stream, None while there is none.
        touched: when it was last given audio or a connection, or has heard audio.
        finished: whether the result is in the outbox.
        connections: how many have carried the stream.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        model: Model,
        decoder: PCMDecoder,
        outbox: Outbox,
        *,
        posteriors: bool,
        settings: Settings,
        time: Callable[[], float],
        end: Callable[[Session, Reason], None],
    ) -> None:
        card = model.card
        self.kind = Kind.LIVE
        self.key = self.name = name
        self.model = model
        self.outbox = outbox
        self.listener: Listener | None = None
        self.connections = 0
        self.touched = time()
        self.finished = False
        self._engine = engine
        self._rate, self._hop = timing(card)
        self._decoder = decoder
        self._posteriors = posteriors
        self._settings = settings
        self._most_samples = int(settings.max_stream_seconds * decoder.rate)
        self._time = time
        self._end = end
        self._transcript = Transcript(card)
        self._segments = 0
        self._pending = _NONE  # decoded, and not yet given to the engine
        self._longest = max(STEP_SECONDS * self._rate, self._hop)
        self._request: Request | None = None
        self._asked = 0  # how many frames it is to answer
        self._deaths = 0  # of lanes that ran it, since the last answer
        self._finishing = False
        self._carried = [(state.name, state.output) for state in card.states]
        self._outputs = ["probabilities", "frames", *(output for _, output in self._carried)]
        # Given from the start, so that a first inference can be batched with later ones.
        self._states: dict[str, Tensor] = {
            state.name: np.zeros((1, *map(int, state.shape[1:])), state.dtype) for state in card.states
        }

    @property
    def samples(self) -> int:
        """How many of the client's samples have been taken."""
        return self._decoder.samples

    @property
    def frames(self) -> int:
        """How many frames have been heard."""
        return self._transcript.frames

    @property
    def seconds(self) -> float:
        """How much audio has been taken."""
        return self.samples / self._decoder.rate

    @property
    def finishing(self) -> bool:
        """Whether the client has sent all its audio."""
        return self._finishing

    @property
    def busy(self) -> bool:
        """Whether audio is being heard."""
        return self._request is not None

    @property
    def patience(self) -> float:
        """Seconds for which it may be left alone."""
        alone = self.listener is None or self.finished
        return self._settings.stream_resume_seconds if alone else self._settings.stream_idle_seconds

    @property
    def neglect(self) -> Reason:
        """Why it ends after that."""
        return Reason.EXPIRED if self.listener is None else Reason.IDLE

    @property
    def memory(self) -> Remains:
        """What is remembered of it when it is gone."""
        return Remains(self.outbox.name, self.samples)

    @property
    def settled(self) -> bool:
        """Whether all whole frames that were taken have been heard."""
        return self._request is None and len(self._pending) < self._hop

    @property
    def full(self) -> bool:
        """Whether no more should be fed before `Listener.notify` is called and this is over."""
        return len(self._pending) >= self._longest or self.outbox.full

    def feed(self, data: bytes) -> None:
        """Take audio.

        Raises:
            InvalidSamplesError: see `PCMDecoder.decode`.
            AudioTooLongError: it would be more than the stream may have. Nothing of it was taken.
        """
        if self._decoder.count(data) > self._most_samples:
            raise AudioTooLongError(
                f"the stream would have {self._decoder.count(data)} samples; it may have {self._most_samples}"
            )
        self._take(self._decoder.decode(data))
        if data:
            self.touched = self._time()

    def finish(self) -> None:
        """There is no more audio: conclude with the result. Doing it again changes nothing."""
        if not self._finishing:
            self._finishing = True
            self._take(self._decoder.finish())

    def mark_sent(self) -> None:
        """The message that the outbox gave has been sent."""
        waited = self.outbox.full
        self.outbox.mark_sent()
        if waited:
            self.proceed()

    def proceed(self) -> None:
        """Run what can be run."""
        if self._request is None:
            self._step()

    def resume(self, number: int) -> None:
        """Go on with a client that has the messages up to this one, and that sends on from `samples`.

        Raises:
            MessagesGoneError: the next message is not kept any more.
        """
        self.outbox.rewind(number)
        self._decoder.drop_part()

    def describe(self) -> dict[str, Any]:
        """What the log tells of it when it ends."""
        return {
            "stream": self.name,
            "model": self.model.card.name,
            "version": self.model.card.version,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "connections": self.connections,
        }

    def snapshot(self, number: int) -> Snapshot:
        """The stream as it is, to go on with elsewhere. What is being heard is pending in it, as if its
        inference had not begun; bytes of a sample that has not arrived whole are not in it, as whoever goes
        on sends them again.

        Args:
            number: of the last message that its client surely has.

        Raises:
            MessagesGoneError: more messages would be needed than are kept.
            NotMovableError: it is finished, or resampled.
        """
        if self.finished:
            raise NotMovableError("the stream is finished; its result is here, for those who resume it")
        if self._decoder.resampling:
            raise NotMovableError(
                f"the audio is resampled from {self._decoder.rate} Hz, and a resampler's state is not to be "
                f"had; a stream that is to be moved has to send at the model's rate, {self._rate} Hz"
            )
        pending = self._pending
        if self._request is not None:
            pending = np.concatenate([self._request.inputs["waveform"][0], pending])
        return Snapshot(
            stream=self.name,
            secret=self.outbox.name.partition(".")[2],
            model=ModelName.of(self.model.card),
            encoding=self._decoder.encoding,
            sample_rate=self._decoder.rate,
            samples=self.samples,
            finishing=self._finishing,
            probabilities=self._posteriors,
            pending=Array.of("pending", pending),
            states=[Array.of(name, state) for name, state in self._states.items()],
            progress=self._transcript.progress,
            segments=self._segments,
            first=number + 1,
            messages=[message.decode() for message in self.outbox.after(number)],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; the session, its decoder and its outbox are new.

        Raises:
            InvalidSnapshotError: it is not one of a stream that this model heard.
        """
        self._states = snapshot.tensors(self.model.card.states)
        self._pending = snapshot.waveform(self._rate, self._hop)
        self._transcript = Transcript(self.model.card, snapshot.heard(self.model.card))
        self._segments = snapshot.segments
        if snapshot.finishing:
            self._decoder.finish()
            self._finishing = True

    def stop(self, reason: Reason) -> bool:
        """It has ended: stop working on it. A finished one is kept, for its result."""
        if reason is Reason.FINISHED:
            return True
        if self._request is not None:
            self._engine.cancel(self._request)
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.end(reason)
        return False

    def _take(self, waveform: Waveform) -> None:
        self._pending = np.concatenate([self._pending, waveform]) if len(self._pending) else waveform
        self.proceed()

    def _step(self) -> None:
        """Run the next frames, if there are any and the client takes what it is told."""
        if self.outbox.full:
            return
        count = min(len(self._pending), self._longest) // self._hop * self._hop
        if count:
            waveform, rest = self._pending[None, :count], self._pending[count:]
            self._pending = rest.copy() if len(rest) else _NONE  # a view would keep all of the chunk
            inputs = {"waveform": waveform, "lengths": np.array([count], np.int32), **self._states}
            self._asked = count // self._hop
            self._request = self._engine.submit(
                self.model, inputs, self._outputs, self._stepped, priority=1, bounded=False
            )
        elif self._finishing and not self.finished:
            self._conclude()

    def _stepped(self, answer: Answer) -> None:
        request, self._request = self._request, None
        try:
            if isinstance(answer, LaneDiedError) and request is not None and self._deaths < _MOST_DEATHS:
                self._deaths += 1
                # The state is that before the step, which is done again.
                self._pending = np.concatenate([request.inputs["waveform"][0], self._pending])
            elif isinstance(answer, Exception):
                raise answer
            else:
                self._deaths = 0
                self._tell(answer)
                self.touched = self._time()
            self._step()
        except Exception:
            log.exception("inference failed", stream=self.name)
            self._end(self, Reason.FAILED)
            return
        if self.listener is not None:
            self.listener.notify()

    def _tell(self, answer: dict[str, Tensor]) -> None:
        if answer["frames"][0] != self._asked:
            card = self.model.card
            raise RuntimeError(
                f"model {card.name} version {card.version} answered {answer['frames'][0]} frames for "
                f"{self._asked} hops"
            )
        for name, output in self._carried:
            self._states[name] = answer[output].copy()  # a view would keep all of the batch
        probabilities = answer["probabilities"][0, : self._asked]
        first = self._transcript.frames
        labels, best, ended = self._transcript.add(probabilities)
        message: dict[str, Any] = {
            "type": "frames",
            "start": first,
            "time": self._seconds(first),
            "labels": labels,
            "probabilities": np.array(best, np.float32),
        }
        if self._posteriors:
            message["posteriors"] = probabilities
        self.outbox.put(message)
        self._tell_segments(ended)

    def _tell_segments(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._segments += 1
            self.outbox.put(
                {
                    "type": "segment",
                    "label": segment.label,
                    "start": self._seconds(segment.start),
                    "end": self._seconds(segment.end),
                    "probability": segment.probability,
                }
            )

    def _conclude(self) -> None:
        self._tell_segments(self._transcript.finish())
        utterance = self._transcript.decide()
        self.outbox.put(
            {
                "type": "result",
                "utterance": None
                if utterance is None
                else {"label": utterance.label, "probability": utterance.probability},
                "frames": self.frames,
                "duration": self.seconds,
                "segments": self._segments,
            }
        )
        self.finished = True
        self._states.clear()  # the rest is kept for a while
        self._end(self, Reason.FINISHED)
        if self.listener is not None:
            self.listener.notify()

    def _seconds(self, frame: int) -> float:
        return frame * self._hop / self._rate
