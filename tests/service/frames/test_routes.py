"""POST /v1/frames on a real socket, with a small graph whose answers are known: scores grow with a frame's
loudest sample.
"""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from praatio import textgrid

from service.engine.store import StoreError, load_model
from service.frames import routes as frames
from tests.service.faults.launcher import Fault
from tests.service.faults.load import wait_until
from tests.service.small_frames import LABELS, expected
from tests.service.sounds import FILES, announce, encode, tone

WORDS = tone(0.02, 0.8, 0.02, 0.3, 0.02)  # half a second each: quiet, loud, quiet, soft, quiet
FIELDS = {
    "utterance", "labels", "probabilities", "classes", "hop_seconds", "segments", "duration",
    "model", "version", "milliseconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, write_frames_artifact: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("frames-store")
    write_frames_artifact(folder)
    return folder


@pytest.fixture(scope="module")
def frames_server(serve: Callable[..., Any], store: Path) -> Iterator[Any]:
    """A server of the small artifact, for recordings of 40 seconds and 8 channels."""
    limits = ["--max-audio-seconds", 40, "--max-audio-samples", 10_000_000, "--max-audio-channels", 8]
    with serve("--store", store, *limits) as server:
        yield server


def post(server: Any, **request: Any) -> httpx.Response:
    response: httpx.Response = server.client.post("/v1/frames", **request)
    return response


def answer(server: Any, content: bytes, **parameters: Any) -> dict[str, Any]:
    response = post(server, content=content, **parameters)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    assert set(document) == FIELDS
    return document


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that a response is a problem document of this status and kind, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == (f"urn:momentum-serve:problem:{kind}" if kind != "about:blank" else kind)
    assert document["instance"] == f"urn:request:{response.headers['x-request-id']}"
    return document


def test_a_recording(frames_server: Any) -> None:
    document = answer(frames_server, encode(WORDS, encoding="FLOAT"))
    np.testing.assert_allclose(document["probabilities"], expected(WORDS), rtol=1e-4)
    assert document["classes"] == LABELS
    assert (
        document["labels"] == ["quiet"] * 50 + ["loud"] * 50 + ["quiet"] * 50 + ["soft"] * 50 + ["quiet"] * 50
    )
    assert (document["hop_seconds"], document["duration"]) == (0.01, 2.5)
    assert [(one["label"], one["start"], one["end"]) for one in document["segments"]] == [
        ("quiet", 0.0, 0.5),
        ("loud", 0.5, 1.0),
        ("quiet", 1.0, 1.5),
        ("soft", 1.5, 2.0),
        ("quiet", 2.0, 2.5),
    ]
    means = expected(WORDS).mean(axis=0)
    assert document["segments"][1]["probability"] == pytest.approx(expected(WORDS)[50:100, 2].mean())
    assert document["utterance"]["label"] == LABELS[1 + means[1:].argmax()]
    assert document["utterance"]["probability"] == pytest.approx(means[1:].max() / means[1:].sum())
    assert (document["model"], document["version"]) == ("frames", "1")
    assert document["milliseconds"] > 0


@pytest.mark.parametrize("count", [80, 81, 79_999, 80_000, 80_001, 250_123, 320_000])
def test_a_long_recording_is_answered_as_if_heard_whole(frames_server: Any, store: Path, count: int) -> None:
    generator = np.random.default_rng(count)
    sound = (
        generator.uniform(-1, 1, count) * np.repeat(generator.uniform(0, 1, count // 700 + 1), 700)[:count]
    )
    file = encode(sound, encoding="PCM_16")
    waveform = soundfile.read(io.BytesIO(file), dtype="float32")[0]
    model = load_model(store / "frames" / "1")
    inputs = {"waveform": waveform[None], "lengths": np.array([count], np.int32)}
    whole = model.run(inputs, ["probabilities", "frames"])
    assert whole["frames"].tolist() == [count // 80]
    document = answer(frames_server, file)
    np.testing.assert_array_equal(
        np.array(document["probabilities"], np.float32), whole["probabilities"][0, : count // 80]
    )
    assert document["duration"] == count / 8000


@pytest.mark.parametrize(("container", "encoding", "rate"), FILES)
def test_every_format_is_heard_alike(frames_server: Any, container: str, encoding: str, rate: int) -> None:
    sound = tone(0.02, 0.8, 0.02, 0.3, 0.02, rate=rate)
    document = answer(frames_server, encode(sound, rate, container, encoding))
    for label, middle in zip(["quiet", "loud", "quiet", "soft", "quiet"], range(25, 250, 50), strict=True):
        assert set(document["labels"][middle - 15 : middle + 15]) == {label}
    assert document["duration"] == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize(
    ("rate", "channels"), [(44_100, 2), (48_000, 6), (192_000, 1), (11_025, 8), (1000, 1)]
)
def test_every_rate_and_number_of_channels_is_heard_alike(
    frames_server: Any, rate: int, channels: int
) -> None:
    sound = tone(0.02, 0.8, rate=rate, seconds=1)[:, None].repeat(channels, axis=1)
    document = answer(frames_server, encode(sound, rate))
    assert document["labels"][5:95] == ["quiet"] * 90
    assert document["labels"][105:195] == ["loud"] * 90
    assert len(document["labels"]) == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "audio/wav",
        "audio/x-flac",
        "audio/*",
        "AUDIO/OGG; codecs=opus",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "",
        None,
    ],
)
def test_audio_as_the_body(frames_server: Any, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert len(answer(frames_server, encode(WORDS), headers=headers)["labels"]) == 250


def test_audio_in_a_form(frames_server: Any) -> None:
    file = encode(WORDS)
    form = post(frames_server, files={"file": ("../../etc/passwd", file, "text/plain")}).json()
    raw = answer(frames_server, file)
    del form["milliseconds"], raw["milliseconds"]
    assert form == raw


def test_as_csv(frames_server: Any) -> None:
    response = post(frames_server, content=encode(WORDS), params={"format": "csv"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="frames.csv"'
    names, *rows = csv.reader(io.StringIO(response.text, newline=""), strict=True)
    assert names == ["start", "end", "label", "probability", "p_quiet", "p_soft", "p_loud"]
    document = answer(frames_server, encode(WORDS), params={"format": "json"})
    assert [row[2] for row in rows] == document["labels"]
    assert [[float(number) for number in row[4:]] for row in rows] == document["probabilities"]
    assert rows[-1][:2] == ["2.49", "2.5"]


def test_as_a_textgrid(frames_server: Any, tmp_path: Path) -> None:
    file = encode(np.append(WORDS, np.zeros(20)))
    response = post(frames_server, content=file, params={"format": "textgrid"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="frames.TextGrid"'
    (tmp_path / "frames.TextGrid").write_bytes(response.content)
    grid = textgrid.openTextgrid(str(tmp_path / "frames.TextGrid"), includeEmptyIntervals=True)
    assert [tuple(entry) for entry in grid.getTier("labels").entries] == [
        (0, 0.5, "quiet"),
        (0.5, 1, "loud"),
        (1, 1.5, "quiet"),
        (1.5, 2, "soft"),
        (2, 2.5, "quiet"),
        (2.5, 2.5025, ""),
    ]


@pytest.mark.parametrize("form", ["xml", "", "JSON", "json,csv"])
def test_other_formats_are_told_which_there_are(frames_server: Any, form: str) -> None:
    document = problem(
        post(frames_server, content=encode(WORDS), params={"format": form}), 422, "invalid-request"
    )
    assert document["detail"] == f"query parameter format is {form!r}"
    assert document["expected"] == "format: Input should be 'json', 'csv' or 'textgrid'"


TEXT, FORM = {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}
FLAC = encode(np.random.default_rng(0).uniform(-1, 1, 20_000), container="FLAC")


@pytest.mark.parametrize(
    ("request_", "status", "kind", "detail"),
    [
        ({}, 422, "unreadable-audio", "the body is empty"),
        ({"content": b"hello, world"}, 422, "unreadable-audio", "not audio in a known format"),
        ({"content": bytes(16_000)}, 422, "unreadable-audio", "not audio in a known format"),
        ({"content": encode(WORDS, 8000, "RAW", "PCM_16")}, 422, "unreadable-audio", "known format"),
        ({"content": b"x", "headers": TEXT}, 415, "unsupported-content-type", "text/plain"),
        ({"json": {"audio": []}}, 415, "unsupported-content-type", "application/json"),
        ({"content": FLAC[:10_000]}, 422, "unreadable-audio", "damaged or of a kind that cannot be read"),
        ({"content": encode(np.zeros(0))}, 422, "audio-too-short", "0 samples at 8000 Hz"),
        ({"content": encode(np.zeros(1))}, 422, "audio-too-short", "1 samples at 8000 Hz"),
        ({"content": encode(np.zeros(79))}, 422, "audio-too-short", "79 samples at 8000 Hz"),
        ({"content": encode(np.zeros(320_001))}, 413, "audio-too-long", "lasts 40.0 seconds or more"),
        ({"content": announce(FLAC, 8000 * 7200)}, 413, "audio-too-long", "lasts 7200.0 seconds"),
        ({"content": encode(np.zeros((1_250_001, 8)), 192_000, "FLAC")}, 413, "audio-too-long", "8 channels"),
        ({"content": encode(np.zeros((100, 9)))}, 422, "unsupported-audio", "9 channels"),
        ({"content": encode(np.zeros(100), 999)}, 422, "unsupported-audio", "999 samples a second"),
        ({"content": encode(np.zeros(100), 768_001)}, 422, "unsupported-audio", "768001 samples a second"),
        ({"content": encode(np.full(100, np.nan), encoding="FLOAT")}, 422, "invalid-samples", "NaN"),
        ({"content": encode(np.full(100, 999.0), encoding="FLOAT")}, 422, "invalid-samples", "size 999"),
        ({"files": {"audio": b"x"}}, 422, "no-file", "the form has the file 'audio'"),
        ({"data": {"file": "x"}, "files": {"other": b"x"}}, 422, "no-file", "the text 'file'"),
        ({"files": {"file": b"x"}}, 422, "unreadable-audio", "not audio in a known format"),
        ({"files": [("file", b"x"), ("file", b"y")]}, 400, "about:blank", "Too many files"),
        ({"content": b"x", "headers": FORM}, 400, "about:blank", "boundary"),
    ],
)  # fmt: skip
def test_wrong_requests_are_told_what_is_wrong(
    frames_server: Any, request_: dict[str, Any], status: int, kind: str, detail: str
) -> None:
    document = problem(post(frames_server, **request_), status, kind)
    assert detail in document["detail"]
    assert kind == "about:blank" or document["expected"]


def test_a_bomb_is_refused(frames_server: Any) -> None:
    bomb = announce(encode(np.zeros(8000 * 3600, np.int16), container="FLAC"), 0)
    assert len(bomb) < 200_000
    document = problem(post(frames_server, content=bomb), 413, "audio-too-long")
    assert document["expected"] == "at most 40 seconds, and 10000000 samples in all channels together"


def test_small_files_of_long_recordings_are_bounded_by_what_they_become(
    serve: Callable[..., Any], store: Path
) -> None:
    """While they are heard, too."""
    silence = encode(np.zeros(320_000, np.int16), container="FLAC")
    assert len(silence) < 20_000
    flags = ["--store", store, "--queue-bytes", 500_000]
    with serve(*flags, module="tests.service.faults.launcher") as server, ThreadPoolExecutor(1) as pool:
        server.process.send_signal(Fault.HOLD)
        try:
            first = pool.submit(post, server, content=silence)
            wait_until(lambda: in_flight(server) == 1, "the first one is being heard")
            refused = post(server, content=silence)
        finally:
            server.process.send_signal(Fault.RELEASE)
        document = problem(refused, 429, "overloaded")
        assert "wait to be heard, and no more than 500000 bytes may" in document["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert first.result().status_code == 200
        assert post(server, content=silence).status_code == 200


def in_flight(server: Any) -> int:
    return int(server.client.get("/v1/status").json()["models"][0]["in_flight"])


def test_many_recordings_at_once_get_their_own_answers(frames_server: Any) -> None:
    def ask(count: int) -> list[tuple[str, int]]:
        sound = tone(0.02, 0.8, seconds=count / 100)
        segments = answer(frames_server, encode(sound))["segments"]
        return [(one["label"], round(100 * (one["end"] - one["start"]))) for one in segments]

    counts = [*range(1, 40), 1500, 1999]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, counts))
    assert answers == [[("quiet", count), ("loud", count)] for count in counts]


def test_nothing_more_is_heard_once_the_client_has_gone(frames_server: Any) -> None:
    body = encode(np.zeros(320_000))
    head = f"POST /v1/frames HTTP/1.1\r\nHost: x\r\nX-Request-ID: gone\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(frames_server.address) as connection:
        connection.sendall(head.encode() + body)
    assert frames_server.logged("gone")[-1]["status"] == 499


def test_a_store_without_a_frames_model(
    serve: Callable[..., Any], tmp_path: Path, write_frames_artifact: Callable[..., Path]
) -> None:
    write_frames_artifact(tmp_path, "phones")
    with serve("--store", tmp_path) as server:
        document = problem(post(server, content=encode(WORDS)), 404, "unknown-model")
        assert document["detail"] == "there is no model 'frames'; this server has phones"


def test_a_model_that_breaks_its_word_is_a_failure_of_the_server(
    serve: Callable[..., Any], tmp_path: Path, write_frames_artifact: Callable[..., Path]
) -> None:
    write_frames_artifact(tmp_path, change=lambda card: card.update(hop_length=40))
    with serve("--store", tmp_path) as server:
        response = post(server, content=encode(WORDS), headers={"x-request-id": "broken"})
        problem(response, 500, "about:blank")
        assert (
            "answered 250 frames for 20000 samples; a hop has 40" in server.logged("broken")[0]["exception"]
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda card: card.update(task="digits"), "has the task 'digits'"),
        (lambda card: card.pop("sample_rate"), "has no sample_rate or no hop_length"),
        (lambda card: card.pop("hop_length"), "has no sample_rate or no hop_length"),
        (lambda card: card.update(silence="sil"), "calls silence 'sil', which is none of its labels"),
    ],
)
def test_other_models_are_refused(
    tmp_path: Path,
    write_frames_artifact: Callable[..., Path],
    change: Callable[[dict[str, Any]], object],
    says: str,
) -> None:
    model = load_model(write_frames_artifact(tmp_path, "frames", "3", change))
    with pytest.raises(StoreError, match="model frames version 3 " + says):
        frames.check(model)


def test_a_model_with_other_inputs_is_refused(tmp_path: Path, write_artifact: Callable[..., Path]) -> None:
    model = load_model(
        write_artifact(
            tmp_path, "frames", "1", lambda card: card.update(task="frames", sample_rate=8000, hop_length=80)
        )
    )
    with pytest.raises(StoreError, match=r"has the inputs pixels \(float32, 2-D\), .* needs waveform"):
        frames.check(model)


def test_a_server_does_not_start_with_another_model(
    serve: Callable[..., Any], tmp_path: Path, write_frames_artifact: Callable[..., Path]
) -> None:
    write_frames_artifact(tmp_path, change=lambda card: card.update(sample_rate=None))
    with pytest.raises(AssertionError, match="has no sample_rate"), serve("--store", tmp_path):
        pass
