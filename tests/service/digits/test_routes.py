"""POST /v1/digits on a real socket, with a small graph whose answers are known: scores grow with the sum of
the pixels.
"""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

IMAGE = [0] * 300 + [255] * 40 + [0] * 444
ROWS = np.reshape(IMAGE, (28, 28)).tolist()


def post(server: Any, **request: Any) -> httpx.Response:
    response: httpx.Response = server.client.post("/v1/digits", **request)
    return response


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that a response is a problem document of this status and kind, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert set(document) - {"expected"} == {"type", "title", "status", "detail", "instance"}
    assert document["type"] == (f"urn:momentum-serve:problem:{kind}" if kind != "about:blank" else kind)
    assert document["status"] == status
    assert document["instance"] == f"urn:request:{response.headers['x-request-id']}"
    return document


def test_one_image_as_json(small_server: Any) -> None:
    response = post(small_server, json={"pixels": ROWS})
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"digit", "probabilities", "model", "version", "milliseconds"}
    assert (answer["digit"], answer["model"], answer["version"]) == (9, "digits", "1")
    assert answer["milliseconds"] > 0
    scores = np.exp(np.linspace(-0.02, 0.025, 10) * 40)
    np.testing.assert_allclose(answer["probabilities"], scores / scores.sum(), rtol=1e-5)


def test_a_batch_answers_each_image_as_if_alone(small_server: Any) -> None:
    images = [ROWS, [*IMAGE[:-1], 200], np.roll(IMAGE, 5).tolist()]
    answer = post(small_server, json={"images": images}).json()
    assert set(answer) == {"predictions", "model", "version", "milliseconds"}
    alone = [post(small_server, json={"pixels": image}).json() for image in images]
    assert answer["predictions"] == [
        {"digit": one["digit"], "probabilities": one["probabilities"]} for one in alone
    ]


@pytest.mark.parametrize(
    ("every", "steps"), [(784, [784]), (392, [392, 784]), (300, [300, 600, 784]), (1, list(range(1, 785)))]
)
def test_a_trace_ends_with_the_answer(small_server: Any, every: int, steps: list[int]) -> None:
    answer = post(small_server, json={"pixels": IMAGE}, params={"trace": every}).json()
    assert answer["trace"]["steps"] == steps
    beliefs = np.array(answer["trace"]["probabilities"])
    assert beliefs.shape == (len(steps), 10)
    np.testing.assert_allclose(beliefs[-1], answer["probabilities"], rtol=1e-5)
    read = np.cumsum(IMAGE)[np.array(steps) - 1] / 255
    scores = np.exp(np.linspace(-0.02, 0.025, 10) * read[:, None])
    np.testing.assert_allclose(beliefs, scores / scores.sum(1, keepdims=True), rtol=1e-4)


def test_a_batch_with_traces(small_server: Any) -> None:
    answer = post(small_server, json={"images": [IMAGE, ROWS]}, params={"trace": 400}).json()
    assert [prediction["trace"]["steps"] for prediction in answer["predictions"]] == [[400, 784]] * 2


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "image/*",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "IMAGE/JPEG; q=1",
        None,
    ],
)
def test_an_image_as_the_body(
    small_server: Any, digit_pictures: dict[str, bytes], content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = post(small_server, content=digit_pictures["9-drawing.gif"], headers=headers)
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"digit", "probabilities", "model", "version", "milliseconds"}


def test_an_image_in_a_form(small_server: Any, digit_pictures: dict[str, bytes]) -> None:
    picture = digit_pictures["0-marker.jpg"]
    answer = post(small_server, files={"file": ("zero.jpg", picture)}, params={"trace": 784}).json()
    raw = post(small_server, content=picture, params={"trace": 784}).json()
    assert answer["probabilities"] == raw["probabilities"]
    assert answer["trace"] == raw["trace"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/x+json", "", None])
def test_json_of_other_types(small_server: Any, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = post(small_server, content=f' {{"pixels": {IMAGE}}}', headers=headers)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("request_", "status", "kind", "detail"),
    [
        ({}, 422, "unreadable-image", "not an image in a known format"),
        ({"content": b"garbage"}, 422, "unreadable-image", "not an image in a known format"),
        ({"content": b"{"}, 400, "not-json", "the body is not JSON"),
        (
            {"content": b"x", "headers": {"content-type": "text/plain"}},
            415,
            "unsupported-content-type",
            "text/plain",
        ),
        ({"json": {"pixels": [1]}}, 422, "invalid-pixels", "pixels has 1 numbers"),
        (
            {"json": {"images": [IMAGE] * 9}},
            422,
            "invalid-pixels",
            "images has 9 entries; it must have 1 to 8",
        ),
        ({"json": {"pixels": [3] * 784}}, 422, "blank-image", "all pixels of pixels are 3"),
        ({"files": {"picture": b"x"}}, 422, "no-file", "the form has the file 'picture'"),
        ({"data": {"file": "x"}, "files": {"other": b"x"}}, 422, "no-file", "the text 'file'"),
        ({"files": {"file": b"x"}}, 422, "unreadable-image", "not an image in a known format"),
        ({"files": [("file", b"x"), ("file", b"y")]}, 400, "about:blank", "Too many files"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "about:blank",
            "boundary",
        ),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(
    small_server: Any, request_: dict[str, Any], status: int, kind: str, detail: str
) -> None:
    assert detail in problem(post(small_server, **request_), status, kind)["detail"]


@pytest.mark.parametrize("trace", ["0", "785", "-1", "1.5", "x", ""])
def test_a_trace_out_of_range(small_server: Any, trace: str) -> None:
    document = problem(
        post(small_server, json={"pixels": IMAGE}, params={"trace": trace}), 422, "invalid-request"
    )
    assert document["detail"] == f"query parameter trace is {trace!r}"
    assert document["expected"] == "trace: a whole number from 1 to 784"


def test_an_image_without_ink(small_server: Any) -> None:
    blank = b"BM:\0\0\0\0\0\0\0006\0\0\0(\0\0\0\1\0\0\0\1\0\0\0\1\0\x18\0" + bytes(28)
    assert "no digit was found" in problem(post(small_server, content=blank), 422, "blank-image")["detail"]


def test_an_image_of_too_many_pixels(small_server: Any) -> None:
    bomb = b"GIF89a\xff\xff\xff\xff\0\0\0," + bytes(4) + b"\xff\xff\xff\xff\0\x08" + bytes(9)
    assert "pixels" in problem(post(small_server, content=bomb), 413, "image-too-large")["detail"]


def test_a_truncated_image(small_server: Any, digit_pictures: dict[str, bytes]) -> None:
    half = digit_pictures["0-marker.jpg"][:6000]
    assert "damaged" in problem(post(small_server, content=half), 422, "unreadable-image")["detail"]


def test_many_requests_at_once_get_their_own_answers(small_server: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(count: int) -> float:
        image = [1] * count + [0] * (784 - count)
        answer = post(small_server, json={"pixels": image}).json()
        return float(np.log(answer["probabilities"][9] / answer["probabilities"][0]) / 0.045)

    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_allclose(list(pool.map(ask, range(1, 60))), range(1, 60), rtol=1e-3)


def test_a_trace_has_a_limit(server: Any) -> None:
    response = server.client.post("/v1/digits", json={"images": [IMAGE] * 11}, params={"trace": 1})
    assert response.status_code == 422
    assert response.json()["detail"] == "11 images with trace=1 would be told in 8624 steps"
    assert "8192" in response.json()["expected"]
    answer = server.client.post("/v1/digits", json={"images": [IMAGE] * 10}, params={"trace": 1})
    assert answer.status_code == 200
