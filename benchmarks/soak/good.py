"""Clients that ask for what there is, and check what they get."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import soundfile

from benchmarks.soak.http import Answer, Connection, refused, request
from benchmarks.soak.oracle import Recording
from benchmarks.soak.tally import ViolationError
from benchmarks.soak.world import World

DIGITS, FRAMES, INFER = "/v1/digits", "/v1/frames", "/v2/models/digits/infer"
_JSON = {"Content-Type": "application/json"}
_HEADER_LENGTH = "Inference-Header-Content-Length"
OK = "200"
_OPERATIONS = (
    "/v2/health/ready",
    "/v2/health/live",
    "/v2/models/digits/stats",
    "/v2/models/frames",
    "/v1/status",
    "/metrics",
)


async def _ask(
    world: World, path: str, body: bytes, headers: Mapping[str, str], *allowed: int
) -> Answer | str:
    """The answer, or the outcome of having been refused: with 429, or one of those allowed."""
    async with Connection.to(world.address) as connection:
        answer = await connection.ask(request("POST", path, body, headers))
    return answer if answer.status == 200 else refused(answer, path, 429, *allowed)


def digits_body(world: World, numbers: list[int]) -> bytes:
    """JSON for /v1/digits: one image, or a batch of several."""
    images = [world.oracle.samples[number].pixels.tolist() for number in numbers]
    return orjson.dumps({"pixels": images[0]} if len(images) == 1 else {"images": images})


def check_digits(world: World, answer: Answer, numbers: list[int], *, picture: bool = False) -> str:
    """Check what /v1/digits answered."""
    document = answer.json()
    predictions = [document] if len(numbers) == 1 else document["predictions"]
    found = [prediction["probabilities"] for prediction in predictions]
    world.oracle.check_digits(document["version"], numbers, found, picture=picture)
    if [prediction["digit"] for prediction in predictions] != np.argmax(found, axis=1).tolist():
        raise ViolationError("the digit is not the most probable one")
    return OK


async def digits_json(world: World) -> str:
    """One image as JSON."""
    numbers = world.digits(1)
    answer = await _ask(world, DIGITS, digits_body(world, numbers), _JSON)
    return answer if isinstance(answer, str) else check_digits(world, answer, numbers)


async def digits_batch(world: World) -> str:
    """A batch as JSON."""
    numbers = world.digits(world.random.randint(2, 12))
    answer = await _ask(world, DIGITS, digits_body(world, numbers), _JSON)
    return answer if isinstance(answer, str) else check_digits(world, answer, numbers)


async def digits_image(world: World) -> str:
    """A picture."""
    numbers = world.digits(1)
    picture = world.oracle.samples[numbers[0]].png
    answer = await _ask(world, DIGITS, picture, {"Content-Type": "image/png"})
    return answer if isinstance(answer, str) else check_digits(world, answer, numbers, picture=True)


async def digits_deadline(world: World) -> str:
    """One image, in less time than there may be."""
    numbers = world.digits(1)
    headers = _JSON | {"X-Request-Timeout": f"{world.random.uniform(0.001, 0.2):.4f}"}
    answer = await _ask(world, DIGITS, digits_body(world, numbers), headers, 408, 504)
    return answer if isinstance(answer, str) else check_digits(world, answer, numbers)


def infer_body(
    world: World, numbers: list[int], output: str = "probabilities", **parameters: Any
) -> tuple[bytes, dict[str, str]]:
    """Bytes for /v2/models/digits/infer, and the headers that they need."""
    pixels = np.stack([world.oracle.samples[number].pixels for number in numbers])
    tensor = _tensor(pixels.shape, parameters={"binary_data_size": pixels.nbytes})
    outputs = [{"name": output, "parameters": {"binary_data": True}}]
    text = orjson.dumps({"inputs": [tensor], "outputs": outputs, "parameters": parameters})
    return text + pixels.tobytes(), {_HEADER_LENGTH: str(len(text))}


def _tensor(shape: tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {"name": "pixels", "datatype": "FP32", "shape": shape, **more}


def read_binary(answer: Answer) -> tuple[str, Any]:
    """The version, and the one output."""
    length = int(answer.headers[_HEADER_LENGTH.lower()])
    document = orjson.loads(answer.body[:length])
    (output,) = document["outputs"]
    return document["model_version"], np.frombuffer(answer.body[length:], "<f4").reshape(output["shape"])


def _read_json(answer: Answer) -> tuple[str, Any]:
    document = answer.json()
    (output,) = document["outputs"]
    return document["model_version"], np.reshape(output["data"], output["shape"])


async def infer_json(world: World) -> str:
    """The Open Inference Protocol's JSON."""
    numbers = world.digits(world.random.choice((1, 1, 1, 3)))
    pixels = np.stack([world.oracle.samples[number].pixels for number in numbers])
    document = {
        "inputs": [_tensor(pixels.shape, data=pixels.tolist())],
        "outputs": [{"name": "probabilities"}],
    }
    answer = await _ask(world, INFER, orjson.dumps(document), _JSON)
    if isinstance(answer, str):
        return answer
    version, found = _read_json(answer)
    world.oracle.check_digits(version, numbers, found)
    return OK


async def infer_binary(world: World) -> str:
    """Its binary extension, several requests on one connection."""
    async with Connection.to(world.address) as connection:
        for _ in range(world.random.randint(1, 3)):
            numbers = world.digits(world.random.choice((1, 1, 1, 4)))
            answer = await connection.ask(request("POST", INFER, *infer_body(world, numbers)))
            if answer.status != 200:
                return refused(answer, INFER, 429)
            version, found = read_binary(answer)
            world.oracle.check_digits(version, numbers, found)
    return OK


async def infer_version(world: World) -> str:
    """A version by its number, which may just have been removed."""
    asked, numbers = world.ready["digits"], world.digits(1)
    path = f"/v2/models/digits/versions/{asked}/infer"
    answer = await _ask(world, path, *infer_body(world, numbers), 404)
    if isinstance(answer, str):
        return answer
    version, found = read_binary(answer)
    if version != str(asked):
        raise ViolationError(f"version {version} answered for version {asked}")
    world.oracle.check_digits(version, numbers, found)
    return OK


async def infer_deadline(world: World) -> str:
    """The protocol's `timeout` and `priority`."""
    numbers = world.digits(world.random.choice((1, 16)))
    timeout, priority = world.random.randint(1_000, 200_000), world.random.randint(1, 3)
    body = infer_body(world, numbers, timeout=timeout, priority=priority)
    answer = await _ask(world, INFER, *body, 504)
    if isinstance(answer, str):
        return answer
    version, found = read_binary(answer)
    world.oracle.check_digits(version, numbers, found)
    return OK


async def sequence(world: World) -> str:
    """An image in pieces, with the state kept by the server."""
    numbers = world.digits(1)
    pixels = world.oracle.samples[numbers[0]].pixels
    inside = sorted(world.random.sample(range(1, len(pixels)), world.random.randint(1, 4)))
    bounds = [0, *inside, len(pixels)]
    name = f"{world.random.getrandbits(64):x}"
    began = None
    async with Connection.to(world.address) as connection:
        for start, stop in pairwise(bounds):
            parameters = {
                "sequence_id": name,
                "sequence_start": start == 0,
                "sequence_end": stop == len(pixels),
            }
            document = {
                "inputs": [_tensor((1, stop - start), data=pixels[start:stop].tolist())],
                "outputs": [{"name": "probabilities"}],
                "parameters": parameters,
            }
            answer = await connection.ask(request("POST", INFER, orjson.dumps(document), _JSON))
            if answer.status != 200:
                return refused(answer, INFER, 429)
            version, found = _read_json(answer)
            began = began or version
            if version != began:
                raise ViolationError(f"a sequence of version {began} was answered by version {version}")
    world.oracle.check_digits(version, numbers, found, streamed=True)
    return OK


def wav(recording: Recording, rate: int) -> bytes:
    """The recording as a file."""
    file = io.BytesIO()
    soundfile.write(file, recording.samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


async def frames_recording(world: World) -> str:
    """A recording as a file."""
    number = world.recording()
    body = wav(world.oracle.recordings[number], world.oracle.sample_rate)
    answer = await _ask(world, FRAMES, body, {"Content-Type": "audio/wav"})
    if isinstance(answer, str):
        return answer
    document = answer.json()
    world.oracle.check_frames(document["version"], number, document["probabilities"])
    labels = [world.oracle.label(index) for index in np.argmax(document["probabilities"], axis=1)]
    if document["labels"] != labels:
        raise ViolationError("the labels of the frames are not the most probable ones")
    return OK


async def operations(world: World) -> str:
    """What operators, load balancers and Prometheus ask. The server is ready all the time."""
    path = world.random.choice(_OPERATIONS)
    async with Connection.to(world.address) as connection:
        answer = await connection.ask(request("GET", path))
    if answer.status != 200 or not answer.body:
        raise ViolationError(f"{path} answered {answer.status} {answer.body[:300]!r}")
    return OK
