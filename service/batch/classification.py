"""From what was decoded to rows of results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.batch.decoding import Decoded
from service.engine import Engine, EngineStoppedError, LaneDiedError, Model, Tensor
from service.frames.routes import CHUNK_SECONDS, timing
from service.frames.transcript import Transcript

Row = dict[str, Any]

_ATTEMPTS, _PAUSE = 3, 1.0  # for what a lane that died has run; seconds, in which another takes its place


async def classify(engine: Engine, model: Model, decoded: Sequence[Decoded | str]) -> list[Row]:
    """Classify what was decoded together: images in one inference, recordings one after the other.

    Args:
        engine: that runs.
        model: one of its models, for digits or for frames.
        decoded: pixels [784] or waveforms [samples]; or what is wrong with a file, which is passed on.

    Returns:
        For each the columns of its row but `path`; `error` alone if something is wrong.

    Raises:
        LaneDiedError: again and again.
        EngineStoppedError
    """
    good = [one for one in decoded if not isinstance(one, str)]
    if model.card.task == "digits":
        answers = iter(await _digits(engine, model, good) if good else [])
    else:
        answers = iter([await _guarded(_recording(engine, model, one)) for one in good])
    return [{"error": one} if isinstance(one, str) else next(answers) for one in decoded]


async def _digits(engine: Engine, model: Model, images: list[Decoded]) -> list[Row]:
    inputs = {
        "pixels": np.stack(images),
        "lengths": np.array([len(image) for image in images], np.int32),
    }
    try:
        answers = await _infer(engine, model, inputs, ["probabilities"])
    except (LaneDiedError, EngineStoppedError):
        raise
    except Exception as error:
        if len(images) == 1:
            return [_failed(error)]
        return [row for image in images for row in await _digits(engine, model, [image])]
    return [
        _row(model, label=model.card.labels[row.argmax()], probability=row.max(), probabilities=row)
        for row in answers["probabilities"].copy()  # a view of a whole batch's
    ]


async def _guarded(recording: Any) -> Row:
    try:
        return dict(await recording)
    except (LaneDiedError, EngineStoppedError):
        raise
    except Exception as error:
        return _failed(error)


async def _recording(engine: Engine, model: Model, waveform: Decoded) -> Row:
    card = model.card
    rate, hop = timing(card)
    outputs = ["probabilities", "frames", *(state.output for state in card.states)]
    transcript = Transcript(card)
    states: dict[str, Tensor] = {}
    segments = []
    for start in range(0, len(waveform), CHUNK_SECONDS * rate):
        chunk = waveform[None, start : start + CHUNK_SECONDS * rate]
        inputs = {"waveform": chunk, "lengths": np.array([chunk.shape[1]], np.int32)}
        answers = await _infer(engine, model, inputs | states, outputs)
        states = {state.name: answers[state.output] for state in card.states}
        segments += transcript.add(answers["probabilities"][0, : answers["frames"][0]])[2]
    segments += transcript.finish()
    utterance = transcript.decide()
    if utterance is None:
        raise RuntimeError(f"it answered no frame for {len(waveform)} samples")
    return _row(
        model,
        label=utterance.label,
        probability=utterance.probability,
        probabilities=np.array(transcript.progress.totals, np.float32) / transcript.frames,
        duration=len(waveform) / rate,
        segments=[
            {
                "label": segment.label,
                "start": round(segment.start * hop / rate, 6),
                "end": round(segment.end * hop / rate, 6),
                "probability": segment.probability,
            }
            for segment in segments
        ],
    )


async def _infer(
    engine: Engine, model: Model, inputs: Mapping[str, Tensor], outputs: Sequence[str]
) -> dict[str, Tensor]:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await engine.infer(model, inputs, outputs)
        except LaneDiedError:
            await asyncio.sleep(_PAUSE)
    return await engine.infer(model, inputs, outputs)


def _row(model: Model, **columns: Any) -> Row:
    return {"model": model.card.name, "version": model.card.version} | columns


def _failed(error: Exception) -> Row:
    return {"error": f"the model fails on it: {error}"}
