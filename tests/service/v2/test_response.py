"""Answers in JSON, in bytes, and in both."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exports.card import Card
from service.engine import Tensor
from service.v2.errors import InvalidRequestError
from service.v2.request import InferRequest
from service.v2.response import MAX_JSON_ELEMENTS, render
from service.v2.signature import Signature
from tests.service.conftest import small_card

SIGNATURE = Signature(Card.model_validate(small_card(b"graph", "digits", "3")))


def asked(*outputs: str, binary: tuple[str, ...] = (), id_: str | None = None) -> InferRequest:
    return InferRequest(id_, {}, outputs, frozenset(binary))


def parsed(body: bytes, length: int | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document, and the tensors, read as the protocol says."""
    document = json.loads(body[:length])
    position = len(body) if length is None else length
    tensors = {}
    for output in document["outputs"]:
        assert output["datatype"] == "FP32"
        if "data" in output:
            assert "parameters" not in output
            flat = np.array(output["data"], np.float32)
        else:
            size = output["parameters"]["binary_data_size"]
            flat = np.frombuffer(body[position : position + size], "<f4")
            position += size
        tensors[output["name"]] = flat.reshape(output["shape"])
    assert position == len(body)
    return document, tensors


def test_json() -> None:
    probabilities = np.float32([[0.1, 0.9]])
    body, length = render(asked("probabilities", id_="a"), SIGNATURE, {"probabilities": probabilities})
    assert length is None
    assert json.loads(body) == {
        "model_name": "digits",
        "model_version": "3",
        "id": "a",
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.9]}],
    }


def test_no_id_unless_one_was_sent() -> None:
    body, _ = render(asked("h_next"), SIGNATURE, {"h_next": np.float32([[1]])})
    assert "id" not in json.loads(body)


tensors = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(first=tensors, second=tensors, binary=st.sets(st.sampled_from(["probabilities", "trace"])))
def test_tensors_arrive_as_they_were(first: Tensor, second: Tensor, binary: set[str]) -> None:
    outputs = {"probabilities": first, "trace": second[:, ::2]}  # a part of a batch is not contiguous
    request = asked("trace", "probabilities", binary=tuple(binary))
    body, length = render(request, SIGNATURE, outputs)
    assert (length is None) == (not binary)
    document, answers = parsed(body, length)
    assert [output["name"] for output in document["outputs"]] == ["trace", "probabilities"]
    for name, tensor in outputs.items():
        np.testing.assert_array_equal(answers[name], tensor)


def test_too_much_json_is_refused() -> None:
    outputs = {"trace": np.zeros((1, MAX_JSON_ELEMENTS + 1), np.float32)}
    render(asked("trace", binary=("trace",)), SIGNATURE, outputs)
    with pytest.raises(InvalidRequestError) as caught:
        render(asked("trace"), SIGNATURE, outputs)
    assert str(caught.value) == (
        f"the outputs asked for as JSON have {MAX_JSON_ELEMENTS + 1} elements ('trace' has "
        f"{MAX_JSON_ELEMENTS + 1}); expected at most {MAX_JSON_ELEMENTS}: ask for fewer outputs, or for "
        "binary data"
    )
