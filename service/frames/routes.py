"""POST /v1/frames: what is heard in a recording, frame by frame?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from exports.card import Card
from service.engine import Engine, Model, StoreError, Tensor
from service.frames import audio, formats
from service.frames.transcript import Segment, Transcript
from service.http.deadline import deadline
from service.http.decoders import Decoders
from service.http.problems import Problem, documented
from service.http.routes import while_connected
from service.http.uploads import UNTYPED, form_file, media_type, read_body, refuse_compressed
from service.settings import Settings

MODEL = "frames"
CHUNK_SECONDS = 10  # heard in one inference, so that long recordings share the lanes with other requests

router = APIRouter(tags=["frames"])

_AUDIO = (
    "a WAV, FLAC, OGG (Vorbis or Opus), MP3, NIST SPHERE, AIFF, AU or CAF file; "
    "convert others, such as M4A or WebM, before"
)
_INPUTS = {"waveform": ("float32", 2), "lengths": ("int32", 1)}  # dtype and number of dimensions
_OUTPUTS = {"probabilities": ("float32", 3), "frames": ("int32", 1)}


class Utterance(BaseModel):
    """One label for the whole recording."""

    label: str = Field(
        description="The label with the greatest mean probability; silence only if nothing else was heard."
    )
    probability: float = Field(description="Its share of the mean probabilities that were compared.")


class TimedSegment(BaseModel):
    """A stretch of frames with one label."""

    label: str
    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    probability: float = Field(description="The label's mean probability over these frames.")


class Answer(BaseModel):
    """What was heard."""

    utterance: Utterance
    labels: list[str] = Field(description="The most probable class of each frame.")
    probabilities: list[list[float]] = Field(description="For each frame the probability of each class.")
    classes: list[str] = Field(description="The classes, in the order of the probabilities.")
    hop_seconds: float = Field(description="Frame k lasts from k to k + 1 times this.")
    segments: list[TimedSegment] = Field(description="Runs of frames with the same label, without gaps.")
    duration: float = Field(description="Seconds of audio; what is left after the last frame is no frame.")
    model: str
    version: str
    milliseconds: float = Field(description="From having received the request to having its answer.")


_BINARY = {"type": "string", "format": "binary"}
_FILE = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": _BINARY},
    "additionalProperties": False,
}
_BODY = {
    "required": True,
    "content": {"audio/*": {"schema": _BINARY}, "multipart/form-data": {"schema": _FILE}},
}
_TABLE = "start,end,label,probability,p_silence,p_7\r\n0.0,0.01,7,0.9,0.1,0.9\r\n"


@router.post(
    "/v1/frames",
    summary="What is heard, frame by frame?",
    response_class=Response,
    responses={
        200: {
            "model": Answer,
            "description": "The class of each frame, the segments they make, and the label of the whole.",
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": _TABLE},
                "text/plain": {"schema": {"type": "string", "description": "A TextGrid."}},
            },
        },
        **documented(400, 404, 408, 413, 415, 422, 429, 500, 503, 504),
    },
    openapi_extra={"requestBody": _BODY},
)
async def hear(
    request: Request,
    form: Annotated[
        Literal["json", "csv", "textgrid"],
        Query(
            alias="format",
            description="json; csv: a row a frame, with its start and end (seconds), its label, the label's "
            "probability, and each class's under p_ and the class's name; textgrid: the segments, for Praat.",
        ),
    ] = "json",
) -> Response:
    """Send a recording (WAV, FLAC, OGG with Vorbis or Opus, MP3, NIST SPHERE, AIFF, AU or CAF), as the body
    or as the form field `file`:

        curl --data-binary @seven.wav http://127.0.0.1:8000/v1/frames
        curl --form file=@seven.wav 'http://127.0.0.1:8000/v1/frames?format=textgrid'

    Any sample rate and number of channels will do: channels are mixed by their mean, and resampled to the
    model's rate.
    """
    refuse_compressed(request)
    content_type = media_type(request.scope)
    if content_type == "multipart/form-data":
        body = await form_file(request, _AUDIO)
    elif content_type in {*UNTYPED, "application/ogg"} or content_type.startswith("audio/"):
        body = await read_body(request)
    else:
        raise Problem(
            415,
            "Unsupported content type",
            f"the body's content type is {content_type}",
            "audio/*, multipart/form-data or application/octet-stream",
        )
    started = time.perf_counter()
    state = request.app.state
    model = state.engine.model(MODEL)
    card = model.card
    decoders: Decoders = state.decoders
    waveform = await decoders.run(request, len(body), _decode, body, card, state.settings)
    del body  # only what was decoded waits
    with decoders.hold(waveform.nbytes):
        heard = await _heard(request, model, waveform)
    if form == "csv":
        return _attachment(await asyncio.to_thread(formats.to_csv, heard), "frames.csv", "text/csv")
    if form == "textgrid":
        return _attachment(
            await asyncio.to_thread(formats.to_textgrid, heard), "frames.TextGrid", "text/plain"
        )
    answered = {
        "model": card.name,
        "version": card.version,
        "milliseconds": round(1000 * (time.perf_counter() - started), 2),
    }
    content = await asyncio.to_thread(formats.to_json, heard, answered)
    return Response(content, media_type="application/json")


def check(model: Model) -> None:
    """Make sure that a model can answer /v1/frames.

    Raises:
        StoreError: it does something else, its card lacks what a frames model's has, or its inputs and
            outputs are others.
    """
    card = model.card
    name = f"model {card.name} version {card.version}"
    if card.task != "frames":
        raise StoreError(
            f"{name} has the task {card.task!r}; /v1/frames needs one for frames: "
            f"export it under another name than {MODEL!r}"
        )
    timing(card)
    if card.silence is not None and card.silence not in card.labels:
        raise StoreError(
            f"{name} calls silence {card.silence!r}, which is none of its labels {card.labels}: "
            "export it again"
        )
    for kind, specs, needed in (("inputs", card.inputs, _INPUTS), ("outputs", card.outputs, _OUTPUTS)):
        has = {spec.name: (spec.dtype, len(spec.shape)) for spec in specs}
        if has != needed:
            raise StoreError(
                f"{name} has the {kind} {_told(has)}; /v1/frames needs {_told(needed)}: export it again"
            )


def timing(card: Card) -> tuple[int, int]:
    """A frames model's sample rate, Hz, and its samples a frame.

    Raises:
        StoreError: the card lacks them.
    """
    if card.sample_rate is None or card.hop_length is None:
        raise StoreError(
            f"model {card.name} version {card.version} has no sample_rate or no hop_length in its card; "
            "/v1/frames needs both: export it again"
        )
    return card.sample_rate, card.hop_length


def _told(tensors: Mapping[str, tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({dtype}, {count}-D)" for name, (dtype, count) in tensors.items()) or "none"


def _decode(body: bytes, card: Card, settings: Settings) -> audio.Waveform:
    """The recording at the model's sample rate; what is wrong with it becomes a problem."""
    rate, hop = timing(card)
    lowest, highest = settings.min_sample_rate, settings.max_sample_rate
    limits = audio.Limits(
        settings.max_audio_seconds, settings.max_audio_samples, settings.max_audio_channels, (lowest, highest)
    )
    try:
        waveform = audio.decode(body, rate, limits)
    except audio.UnreadableAudioError as error:
        raise Problem(422, "Unreadable audio", str(error), _AUDIO) from error
    except audio.UnsupportedAudioError as error:
        expected = f"{lowest} to {highest} samples a second, and at most {limits.channels} channels"
        raise Problem(422, "Unsupported audio", str(error), expected) from error
    except audio.AudioTooLongError as error:
        expected = f"at most {limits.seconds} seconds, and {limits.samples} samples in all channels together"
        raise Problem(413, "Audio too long", str(error), expected) from error
    except audio.InvalidSamplesError as error:
        raise Problem(422, "Invalid samples", str(error), "numbers from -1 to 1") from error
    if len(waveform) < hop:
        raise Problem(
            422,
            "Audio too short",
            f"the audio has {len(waveform)} samples at {rate} Hz, which is no frame",
            f"at least {hop} samples, {1000 * hop / rate:g} milliseconds",
        )
    return waveform


async def _heard(request: Request, model: Model, waveform: audio.Waveform) -> formats.Heard:
    """Hear a recording, chunk after chunk; nothing more once the client has gone. It is admitted or refused
    as a whole with the first, which has to leave time for the rest; then nothing but its deadline ends it.
    """
    engine: Engine = request.app.state.engine
    card = model.card
    rate, hop = timing(card)
    outputs = ["probabilities", "frames", *(state.output for state in card.states)]
    transcript = Transcript(card)
    states: dict[str, Tensor] = {}
    probabilities: list[Tensor] = []
    labels: list[str] = []
    segments: list[Segment] = []
    when = deadline(request.scope)
    starts = range(0, len(waveform), CHUNK_SECONDS * rate)
    rest = (len(starts) - 1) * _seconds(model, CHUNK_SECONDS * rate)
    for start in starts:
        if await request.is_disconnected():
            raise ClientDisconnect
        chunk = waveform[None, start : start + CHUNK_SECONDS * rate]
        inputs = {"waveform": chunk, "lengths": np.array([chunk.shape[1]], np.int32)}
        first = start == 0
        answers = await while_connected(
            request,
            engine.infer(
                model,
                inputs | states,
                outputs,
                deadline=when - rest if first else when,
                bounded=first,
            ),
        )
        states = {state.name: answers[state.output] for state in card.states}
        # a copy, as the answer may be a view of a whole batch's
        probabilities.append(answers["probabilities"][0, : answers["frames"][0]].copy())
        more_labels, _, ended = transcript.add(probabilities[-1])
        labels += more_labels
        segments += ended
    segments += transcript.finish()
    utterance = transcript.decide()
    if utterance is None or transcript.frames != len(waveform) // hop:
        raise RuntimeError(
            f"model {card.name} version {card.version} answered {transcript.frames} frames for "
            f"{len(waveform)} samples; a hop has {hop}"
        )
    return formats.Heard(
        classes=card.labels,
        sample_rate=rate,
        hop_length=hop,
        samples=len(waveform),
        probabilities=np.concatenate(probabilities),
        labels=labels,
        segments=segments,
        utterance=utterance,
    )


def _seconds(model: Model, samples: int) -> float:
    """How long the model takes for a chunk, as measured when it was loaded."""
    nearest = min(model.paces, key=lambda pace: abs(pace.size - samples))
    return nearest.at(samples).seconds


def _attachment(content: bytes, name: str, media_type: str) -> Response:
    return Response(
        content,
        media_type=f"{media_type}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
