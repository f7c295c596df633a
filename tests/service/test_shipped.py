"""The shipped digits model through the running server, on real digits and on pictures of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
Mnist = tuple[np.ndarray, np.ndarray]


def ask(server: Any, **request: Any) -> dict[str, Any]:
    response = server.client.post("/v1/digits", **request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ask_batch(server: Any, images: np.ndarray) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = ask(server, json={"images": images.tolist()})["predictions"]
    return predictions


def test_500_digits_of_mnist(server: Any, mnist: Mnist) -> None:
    images, labels = mnist
    predictions = ask_batch(server, images[:250]) + ask_batch(server, images[250:])
    assert np.mean([prediction["digit"] for prediction in predictions] == labels) >= 0.98
    for prediction in predictions:
        assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert prediction["digit"] == np.argmax(prediction["probabilities"])


def test_digits_of_mnist_as_files(server: Any, mnist: Mnist) -> None:
    images, labels = mnist
    right = 0
    for image, label in zip(images[::10], labels[::10], strict=True):
        file = io.BytesIO()
        Image.fromarray(255 - image).resize((140, 140), Image.Resampling.BICUBIC).save(file, "PNG")
        right += ask(server, content=file.getvalue())["digit"] == label
    assert right >= 48


def test_every_picture_shows_the_digit_in_its_name(server: Any, digit_pictures: dict[str, bytes]) -> None:
    answers = {name: ask(server, content=picture)["digit"] for name, picture in digit_pictures.items()}
    assert answers == {name: int(name[0]) for name in digit_pictures}


def test_the_picture_of_the_documentation(server: Any) -> None:
    answer = ask(server, files={"file": (ROOT / "docs" / "images" / "seven.jpg").read_bytes()})
    assert (answer["digit"], answer["model"]) == (7, "digits")
    assert answer["probabilities"][7] > 0.9


def test_a_batch_answers_bit_for_bit_as_each_image_alone(server: Any, mnist: Mnist) -> None:
    images = mnist[0][::50]
    alone = [ask(server, json={"pixels": image.tolist()})["probabilities"] for image in images]
    assert [prediction["probabilities"] for prediction in ask_batch(server, images)] == alone


def test_the_trace_shows_how_the_belief_forms(server: Any, mnist: Mnist) -> None:
    images, labels = mnist
    pixels = {"images": images[::10].tolist()}
    predictions = ask(server, json=pixels, params={"trace": 28})["predictions"]
    assert all(prediction["trace"]["steps"] == list(range(28, 785, 28)) for prediction in predictions)
    beliefs = np.array([prediction["trace"]["probabilities"] for prediction in predictions])
    of_label = beliefs[np.arange(len(beliefs)), :, labels[::10]].mean(0)
    assert of_label[2] < 0.2  # hardly any ink read yet
    assert of_label[-1] > 0.95
    finals = [prediction["probabilities"] for prediction in predictions]
    np.testing.assert_allclose(beliefs[:, -1], finals, atol=1e-6)
