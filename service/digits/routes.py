"""POST /v1/digits: which digit does an image show?"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from starlette.types import Scope

from service.digits import images, ink, pixels
from service.digits.examples import SEVEN, TWO
from service.engine import Engine, Model, StoreError, Tensor
from service.engine.batching import Answer as EngineAnswer
from service.http.deadline import deadline
from service.http.headers import header
from service.http.problems import Problem, documented
from service.http.routes import BareRoute, Done, Leave, Shortcut, answer, rendered, while_connected
from service.http.uploads import UNTYPED, form_file, media_type, read_body, refuse_compressed
from service.settings import Settings

MODEL = "digits"
_LABELS = [str(digit) for digit in range(10)]
PATH = "/v1/digits"
LONGEST_TRACE = 8192  # steps of all images together, ten probabilities each: half a megabyte of JSON
_AT_ONCE = 2**15  # bytes of JSON, such as one image's, that are read sooner than handed to another thread

_IMAGE = "a PNG, JPEG, WebP, GIF or BMP file that shows one digit, darker or lighter than its ground"
_JSON = (
    '{"pixels": image} or {"images": [image, ...]}; an image is 28 rows of 28 numbers or 784 numbers, '
    "0 to 1 or 0 to 255, light ink on a dark ground"
)


class Trace(BaseModel):
    """What the network believed as it read."""

    steps: list[int] = Field(description="After how many pixels, in raster order.")
    probabilities: list[list[float]] = Field(
        description="The probability of each digit after each of these steps."
    )
    pixels: list[float] = Field(description="What it read: 784 pixels, 0 to 1, in raster order.")


class Prediction(BaseModel):
    """One image's answer."""

    digit: int = Field(description="The most probable digit.")
    probabilities: list[float] = Field(description="The probability of each digit, 0 to 9.")
    trace: Trace | None = Field(None, description="With ?trace=K only.")


class _Answered(BaseModel):
    model: str
    version: str
    milliseconds: float = Field(description="From having received the request to having its answer.")


class Answer(Prediction, _Answered):
    """The answer to a single image."""


class BatchAnswer(_Answered):
    """The answer to a JSON batch, in its order."""

    predictions: list[Prediction]


_BINARY = {"type": "string", "format": "binary"}
_NUMBER = {"type": "number", "minimum": 0, "maximum": 255}


def _list(count: int, items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": count, "maxItems": count, "items": items}


_PIXELS = {
    "description": "28 rows of 28 numbers, or 784 numbers in raster order; light ink on a dark ground as in "
    "MNIST. 0 to 1, or 0 to 255 if any number of the image is above 1. They are read as they are.",
    "oneOf": [_list(ink.FIELD, _list(ink.FIELD, _NUMBER)), _list(pixels.PIXELS, _NUMBER)],
}


def _object(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: schema}, "additionalProperties": False}


_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    _object("pixels", _PIXELS),
                    _object("images", {"type": "array", "minItems": 1, "items": _PIXELS}),
                ]
            },
            "examples": {
                "one digit": {"summary": "One digit", "value": {"pixels": SEVEN}},
                "a batch": {"summary": "Two digits", "value": {"images": [SEVEN, TWO]}},
            },
        },
        "multipart/form-data": {"schema": _object("file", _BINARY)},
        "image/*": {"schema": _BINARY},
    },
}


_TRACE = {
    "name": "trace",
    "in": "query",
    "required": False,
    "description": "Also tell what the network believed after every so many pixels, and after the last.",
    "schema": {"type": "integer", "minimum": 1, "maximum": pixels.PIXELS},
}


def install(app: FastAPI) -> None:
    """Give the application the endpoint."""
    BareRoute.add(
        app,
        PATH,
        classify,
        Shortcut(begin, takes),
        methods=["POST"],
        tags=["digits"],
        summary="Which digit is it?",
        response_class=Response,
        responses={
            200: {
                "model": Answer | BatchAnswer,
                "description": "The digit, or one for each image of a batch.",
            },
            **documented(400, 404, 408, 413, 415, 422, 429, 500, 503, 504),
        },
        openapi_extra={"parameters": [_TRACE], "requestBody": _BODY},
    )


async def classify(request: Request) -> Response:
    """Send a photo or drawing of one digit (PNG, JPEG, WebP, GIF or BMP), as the body or as the form field
    `file`:

        curl --data-binary @seven.jpg http://127.0.0.1:8000/v1/digits
        curl --form file=@seven.jpg http://127.0.0.1:8000/v1/digits

    It is redrawn as MNIST was made: the ink is found, scaled into 20x20 pixels and centred by mass in 28x28.
    Or send such pixels as JSON, one image or a batch; those are read as they are.
    """
    trace = _every(request)
    refuse_compressed(request)
    content_type = media_type(request.scope)
    form = content_type == "multipart/form-data"
    body = await form_file(request, _IMAGE) if form else await read_body(request)
    started = time.perf_counter()
    state = request.app.state
    model: Model = state.engine.model(MODEL)
    if len(body) <= _AT_ONCE and _is_json(content_type, body):
        asked = _read(content_type, body, state.settings)
    else:
        asked = await state.decoders.run(request, len(body), _read, content_type, body, state.settings)
    del body  # only the pixels wait
    return await while_connected(request, answer(partial(_ask, request.scope, model, asked, trace, started)))


def takes(scope: Scope, body: bytes) -> bool:
    """Whether `begin` answers a request: JSON that is soon read, and no trace."""
    if scope["query_string"] or len(body) > _AT_ONCE or header(scope, b"content-encoding") is not None:
        return False
    return _is_json(media_type(scope), body)


def begin(scope: Scope, body: bytes, done: Done) -> Leave:
    """`classify` for what it `takes`; see `Shortcut`."""
    started = time.perf_counter()
    state = scope["app"].state
    model: Model = state.engine.model(MODEL)
    return _ask(scope, model, _read("application/json", body, state.settings), None, started, done)


def _ask(
    scope: Scope, model: Model, asked: pixels.Images, trace: int | None, started: float, done: Done
) -> Leave:
    """Have the model answer; see `Shortcut`.

    Raises:
        Problem: the trace would be too long.
    """
    count = len(asked.pixels)
    steps = 0 if trace is None else count * math.ceil(pixels.PIXELS / trace)
    if steps > LONGEST_TRACE:
        raise Problem(
            422,
            "Trace too long",
            f"{count} images with trace={trace} would be told in {steps} steps",
            f"at most {LONGEST_TRACE} steps together: fewer images, or a larger trace",
        )
    inputs = {"pixels": asked.pixels, "lengths": np.full(count, pixels.PIXELS, np.int32)}
    outputs = ["probabilities"] if trace is None else ["probabilities", "trace"]

    def render(answers: dict[str, Tensor]) -> Response:
        return _respond(asked, model, answers, trace, started)

    def answered(answers: EngineAnswer) -> None:
        rendered(done, answers, render)

    engine: Engine = scope["app"].state.engine
    request = engine.submit(model, inputs, outputs, answered, deadline=deadline(scope))
    return partial(engine.cancel, request)


def _respond(
    asked: pixels.Images, model: Model, answers: dict[str, Tensor], trace: int | None, started: float
) -> Response:
    predictions = _predictions(asked.pixels, answers, model.card.labels, trace)
    answered = {
        "model": model.card.name,
        "version": model.card.version,
        "milliseconds": round(1000 * (time.perf_counter() - started), 2),
    }
    found = {"predictions": predictions} if asked.batch else predictions[0]
    return Response(
        orjson.dumps(found | answered, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )


def _every(request: Request) -> int | None:
    """The query parameter `trace`."""
    if not request.scope["query_string"] or (text := request.query_params.get("trace")) is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= pixels.PIXELS:
        return int(text)
    raise Problem(
        422,
        "Invalid request",
        f"query parameter trace is {text[:20]!r}",
        f"trace: a whole number from 1 to {pixels.PIXELS}",
    )


def check(model: Model) -> None:
    """Make sure that a model can answer /v1/digits.

    Raises:
        StoreError: it reads images of another shape than 28x28, or its labels are not 0 to 9.
    """
    card = model.card
    if card.image_shape != (ink.FIELD, ink.FIELD):
        raise StoreError(
            f"model {card.name} version {card.version} reads images of shape {card.image_shape}; /v1/digits "
            f"needs {ink.FIELD} x {ink.FIELD}: export it under another name than {MODEL!r}"
        )
    if card.labels != _LABELS:
        raise StoreError(
            f"model {card.name} version {card.version} has the labels {', '.join(card.labels)[:50]}; "
            f"/v1/digits needs 0 to 9 in this order: export it under another name than {MODEL!r}"
        )


def _is_json(content_type: str, body: bytes) -> bool:
    if content_type in UNTYPED:
        return body.lstrip()[:1] in (b"{", b"[")  # no image format begins with these
    return content_type == "application/json" or content_type.endswith("+json")


def _read(content_type: str, body: bytes, settings: Settings) -> pixels.Images:
    """The pixels a request asks about; what is wrong with it becomes a problem."""
    is_image = content_type in {*UNTYPED, "multipart/form-data"} or content_type.startswith("image/")
    try:
        if _is_json(content_type, body):
            return pixels.parse(body, settings.max_batch)
        if is_image:
            grey = images.decode(body, settings.max_image_pixels)
            return pixels.Images(ink.to_mnist(grey).reshape(1, pixels.PIXELS), batch=False)
    except pixels.NotJSONError as error:
        raise Problem(400, "Not JSON", str(error), _JSON) from error
    except pixels.InvalidPixelsError as error:
        raise Problem(422, "Invalid pixels", str(error), _JSON) from error
    except pixels.BlankPixelsError as error:
        raise Problem(422, "Blank image", str(error), _JSON) from error
    except images.ImageTooLargeError as error:
        limit = f"at most {settings.max_image_pixels} pixels"
        raise Problem(413, "Image too large", str(error), limit) from error
    except images.UnreadableImageError as error:
        raise Problem(422, "Unreadable image", str(error), _IMAGE) from error
    except ink.NoInkError as error:
        raise Problem(422, "Blank image", f"no digit was found: {error}", _IMAGE) from error
    raise Problem(
        415,
        "Unsupported content type",
        f"the body's content type is {content_type}",
        "image/*, multipart/form-data, application/json or application/octet-stream",
    )


def _predictions(
    read: Tensor, answers: dict[str, Tensor], labels: list[str], trace: int | None
) -> list[dict[str, Any]]:
    """An entry for each image, with numpy's numbers and arrays in it."""
    probabilities = answers["probabilities"]
    predictions: list[dict[str, Any]] = [
        {"digit": int(labels[row.argmax()]), "probabilities": row} for row in probabilities
    ]
    if trace is not None:
        steps = sorted({*range(trace, pixels.PIXELS + 1, trace), pixels.PIXELS})
        after = np.ascontiguousarray(answers["trace"][:, np.array(steps) - 1])
        for prediction, beliefs, image in zip(predictions, after, read, strict=True):
            prediction["trace"] = {"steps": steps, "probabilities": beliefs, "pixels": image}
    return predictions
