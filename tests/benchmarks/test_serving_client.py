"""The benchmark asks rightly, and does not measure a server that answers wrongly."""

import io
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image

from benchmarks.serving import client, payloads
from benchmarks.serving.digits import Digits
from benchmarks.serving.payloads import Payload, Sample
from exports.store import DEFAULT_STORE, read_card
from tests.benchmarks.small_server import answer, answering

WAYS = [
    payloads.json("/"),
    payloads.json_batch("/"),
    payloads.raw("/"),
    payloads.base64_batch("/"),
    payloads.png("/"),
    payloads.v2_json(),
    payloads.v2_base64(),
    payloads.v2_binary(),
]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return payloads.samples()


@pytest.fixture(scope="module")
def digits() -> Digits:
    folder, _ = read_card(DEFAULT_STORE, "digits")
    return Digits(folder / "model.onnx")


def test_samples_differ_and_every_number_costs(samples: list[Sample]) -> None:
    assert len(samples) == payloads.COUNT == len({sample.pixels.tobytes() for sample in samples})
    for sample in samples:
        assert sample.pixels.shape == sample.seen.shape == (784,)
        assert 0 < sample.pixels.min() <= sample.pixels.max() <= 1
        assert Image.open(io.BytesIO(sample.png)).size == (28, 28)


def test_digits_is_the_shipped_model(samples: list[Sample], digits: Digits) -> None:
    _, card = read_card(DEFAULT_STORE, "digits")
    expected = np.array(card.golden.outputs["probabilities"])
    pixels = np.array(card.golden.inputs["pixels"], np.float32)
    np.testing.assert_allclose(digits(pixels), expected, atol=card.golden.tolerance)
    together = digits(np.stack([sample.pixels for sample in samples[:3]]))
    assert together.shape == (3, 10)
    np.testing.assert_array_equal(together[1], digits(samples[1].pixels[None])[0])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_requests_say_how_long_they_are(way: Payload, samples: list[Sample]) -> None:
    head, _, body = way.request(samples[0], 80, {"X-Request-Timeout": "1"}).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"POST {way.path} HTTP/1.1"
    assert f"Content-Length: {len(body)}" in lines
    assert "X-Request-Timeout: 1" in lines


def test_the_numbers_survive_json(samples: list[Sample]) -> None:
    for way, name in ((payloads.json("/"), "pixels"), (payloads.v2_json(), "inputs")):
        value = orjson.loads(way.write(samples[3])[1])[name]
        numbers = value if name == "pixels" else value[0]["data"]
        np.testing.assert_array_equal(np.array(numbers, np.float32), samples[3].pixels)


def test_answers_in_chunks_and_connections_that_close() -> None:
    answered: list[object] = []

    def say(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        answered.append(handler.client_address)
        if body == b"chunks":
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"3\r\nabc\r\nb\r\ndefghijklmn\r\n0\r\n\r\n")
        else:
            answer(handler, 404, b"no", Connection="close")
            handler.close_connection = True

    def request(body: bytes) -> bytes:
        return b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    with answering(say) as port, client.Connection(port) as connection:
        assert connection.ask(request(b"chunks")).body == b"abcdefghijklmn"
        for _ in range(2):
            status, headers, body = connection.ask(request(b"x"))
            assert (status, headers["content-length"], body) == (404, "2", b"no")
    assert answered[0] == answered[1] != answered[2]


def test_a_server_that_answers_rightly_passes(samples: list[Sample], digits: Digits) -> None:
    def say(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        probabilities = digits(np.frombuffer(body, np.float32)[None])[0]
        answer(handler, 200, orjson.dumps({"probabilities": probabilities.tolist()}))

    with answering(say) as port:
        client.check(port, payloads.raw("/"), samples[:4], digits)


@pytest.mark.parametrize(
    ("status", "change", "said"), [(200, 1e-4, "not"), (500, 0.0, "500"), (200, np.nan, "not")]
)
def test_a_server_that_answers_wrongly_does_not(
    samples: list[Sample], digits: Digits, status: int, change: float, said: str
) -> None:
    def say(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        probabilities = digits(np.frombuffer(body, np.float32)[None])[0]
        if body == samples[1].pixels.tobytes():
            probabilities[0] += change
        answer(handler, status, orjson.dumps({"probabilities": probabilities.tolist()}))

    with answering(say) as port, pytest.raises(client.WrongAnswerError, match=said):
        client.check(port, payloads.raw("/"), samples[:2], digits)


def test_peers_are_pinned() -> None:
    from benchmarks.serving import environments, servers

    for server in servers.SERVERS:
        if not server.ours:
            assert (environments.PEERS / f"{server.name}.py").is_file()
            lines = environments.requirements(server.name).read_text().splitlines()
            assert all("==" in line for line in lines if not line.startswith("#"))
            assert server.version


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path) -> None:
    from benchmarks.serving import environments

    with pytest.raises(environments.UnavailableError, match="no-such-python is needed"):
        environments.python("fastapi", tmp_path, "no-such-python")
