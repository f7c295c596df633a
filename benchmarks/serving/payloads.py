"""What is asked, and in which words."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.serving.digits import Floats
from benchmarks.serving.ports import HOST
from service.digits import images, ink

COUNT = 32
_HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, eq=False)
class Sample:
    """A digit.

    Attributes:
        pixels: [784] in [0, 1], as a scan on paper that is nowhere quite white: no number is 0, and all have
            four decimals.
        png: a picture of it.
        seen: the pixels [784] that the service makes of the picture.
    """

    pixels: Floats
    png: bytes
    seen: Floats


@dataclass(frozen=True)
class Payload:
    """A way to ask for the probabilities of a sample.

    Attributes:
        name: for the tables.
        path: of the endpoint.
        write: the headers and the body of a request.
        read: the probabilities in the headers, with names in lower case, and the body of an answer.
        picture: whether the picture is sent, not the pixels.
    """

    name: str
    path: str
    write: Callable[[Sample], tuple[dict[str, str], bytes]]
    read: Callable[[Mapping[str, str], bytes], Floats]
    picture: bool = False

    def request(self, sample: Sample, port: int, headers: Mapping[str, str] | None = None) -> bytes:
        """A request as it goes over the wire."""
        own, body = self.write(sample)
        fields = {"Host": f"{HOST}:{port}", **own, "Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def samples() -> list[Sample]:
    """Digits that people wrote, of the set that comes with scikit-learn."""
    generator = np.random.default_rng(0)
    made = []
    for digit in load_digits().images[:COUNT]:
        field = Image.new("L", (28, 28))
        field.paste(Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((20, 20)), (4, 4))
        paper = generator.uniform(0.0001, 0.1, (28, 28))
        pixels = np.round(0.9 * np.asarray(field) / 255 + paper, 4).astype(np.float32).ravel()
        file = io.BytesIO()
        field.save(file, "PNG")
        seen = ink.to_mnist(images.decode(file.getvalue(), 28 * 28)).ravel()
        made.append(Sample(pixels, file.getvalue(), seen))
    return made


def json(path: str) -> Payload:
    """{"pixels": [784 numbers]}."""
    return Payload("json", path, lambda sample: _json({"pixels": _numbers(sample)}), _probabilities)


def json_batch(path: str) -> Payload:
    """{"pixels": [[784 numbers]]}."""
    return Payload("json", path, lambda sample: _json({"pixels": [_numbers(sample)]}), _first)


def base64_batch(path: str) -> Payload:
    """{"pixels": ["784 float32 in base64"]}."""
    return Payload("json-base64", path, lambda sample: _json({"pixels": [_base64(sample)]}), _first)


def raw(path: str) -> Payload:
    """784 float32, answered in JSON."""
    return Payload("raw", path, lambda sample: (_bytes(), sample.pixels.tobytes()), _probabilities)


def png(path: str) -> Payload:
    """A picture."""
    return Payload("image", path, lambda s: ({"Content-Type": "image/png"}, s.png), _probabilities, True)


def v2_json() -> Payload:
    """The Open Inference Protocol's JSON."""

    def write(sample: Sample) -> tuple[dict[str, str], bytes]:
        return _json(_v2({"datatype": "FP32", "shape": [1, 784], "data": _numbers(sample)}))

    return Payload("v2-json", _V2_PATH, write, _v2_probabilities)


def v2_base64() -> Payload:
    """Bytes in the protocol's JSON, as servers take them that have not its binary extension."""

    def write(sample: Sample) -> tuple[dict[str, str], bytes]:
        return _json(_v2({"datatype": "BYTES", "shape": [1], "data": [_base64(sample)]}))

    return Payload("v2-base64", _V2_PATH, write, _v2_probabilities)


def v2_binary() -> Payload:
    """The Open Inference Protocol's binary extension, for the request and the answer."""

    def write(sample: Sample) -> tuple[dict[str, str], bytes]:
        data = sample.pixels.tobytes()
        tensor = {"datatype": "FP32", "shape": [1, 784], "parameters": {"binary_data_size": len(data)}}
        head = orjson.dumps(_v2(tensor, {"binary_data": True}))
        return _bytes() | {_HEADER_LENGTH: str(len(head))}, head + data

    def read(headers: Mapping[str, str], body: bytes) -> Floats:
        return np.frombuffer(body[int(headers[_HEADER_LENGTH.lower()]) :], np.float32)

    return Payload("v2-binary", _V2_PATH, write, read)


_V2_PATH = "/v2/models/digits/infer"


def _v2(tensor: dict[str, Any], parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    output: dict[str, Any] = {"name": "probabilities"}
    if parameters:
        output["parameters"] = parameters
    return {"inputs": [{"name": "pixels", **tensor}], "outputs": [output]}


def _json(document: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/json"}, orjson.dumps(document)


def _bytes() -> dict[str, str]:
    return {"Content-Type": "application/octet-stream"}


def _numbers(sample: Sample) -> list[float]:
    return [round(float(pixel), 4) for pixel in sample.pixels]


def _base64(sample: Sample) -> str:
    return base64.b64encode(sample.pixels.tobytes()).decode()


def _probabilities(_: Mapping[str, str], body: bytes) -> Floats:
    return np.array(orjson.loads(body)["probabilities"], np.float32)


def _first(_: Mapping[str, str], body: bytes) -> Floats:
    return np.array(orjson.loads(body)[0], np.float32)


def _v2_probabilities(_: Mapping[str, str], body: bytes) -> Floats:
    return np.array(orjson.loads(body)["outputs"][0]["data"], np.float32).ravel()
