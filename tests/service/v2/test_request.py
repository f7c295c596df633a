"""Requests are read right, or refused with a message that says what was sent and what was expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.card import Card
from service.v2.errors import InvalidRequestError
from service.v2.message import MAX_ID, MAX_JSON_BYTES, MAX_JSON_CONTAINERS, parse
from service.v2.request import MAX_ELEMENTS, InferRequest
from service.v2.request import read as read_message
from service.v2.signature import Signature
from tests.service.conftest import small_card
from tests.service.small_frames import HOP, small_frames_card

DIGITS = Signature(Card.model_validate(small_card(b"graph", "digits", "1")))
FRAMES = Signature(Card.model_validate(small_frames_card(b"graph", "frames", "1")))
PIXELS = {"name": "pixels", "shape": [2, 3], "datatype": "FP32", "data": [0, 0.5, 1, 1, 1, 1]}
LENGTHS = {"name": "lengths", "shape": [2], "datatype": "INT32", "data": [2, 3]}


def read(body: bytes, header_length: str | None, signature: Signature) -> InferRequest:
    return read_message(parse(body, header_length), signature)


def asked(document: Any, signature: Signature = DIGITS) -> InferRequest:
    return read(json.dumps(document).encode(), None, signature)


def refused(body: bytes, header_length: str | None = None, signature: Signature = DIGITS) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        read(body, header_length, signature)
    return str(caught.value)


def with_bytes(document: Any, *tensors: bytes) -> tuple[bytes, str]:
    """A body of JSON and bytes, and its header."""
    text = json.dumps(document).encode()
    return b"".join([text, *tensors]), str(len(text))


def binary(item: dict[str, Any], size: int) -> dict[str, Any]:
    rest = {name: value for name, value in item.items() if name != "data"}
    return rest | {"parameters": {"binary_data_size": size}}


def test_a_whole_request() -> None:
    request = asked(
        {
            "id": "order 66",
            "inputs": [PIXELS, LENGTHS, {"name": "h", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}],
            "outputs": [{"name": "h_next"}, {"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    )
    assert request.id == "order 66"
    assert request.outputs == ("h_next", "probabilities")
    assert request.binary == {"probabilities"}
    expected = {"pixels": [[0, 0.5, 1], [1, 1, 1]], "lengths": [2, 3], "h": [[1], [2]]}
    dtypes = {"pixels": np.float32, "lengths": np.int32, "h": np.float32}
    assert set(request.inputs) == set(expected)
    for name, tensor in request.inputs.items():
        assert tensor.dtype == dtypes[name]
        np.testing.assert_array_equal(tensor, expected[name])


def test_what_is_left_out() -> None:
    for nothing in ({}, {"id": None, "parameters": None, "outputs": None}, {"outputs": []}):
        request = asked({"inputs": [PIXELS], **nothing})
        assert request.id is None
        assert request.outputs == ("probabilities", "trace")  # all that are not states
        assert not request.binary
        np.testing.assert_array_equal(request.inputs["lengths"], np.int32([3, 3]))


def test_binary_output_by_default() -> None:
    document = {"inputs": [PIXELS], "parameters": {"binary_data_output": True}}
    assert asked(document).binary == {"probabilities", "trace"}
    outputs = [{"name": "trace"}, {"name": "h_next", "parameters": {"binary_data": False}}]
    assert asked(document | {"outputs": outputs}).binary == {"trace"}


def test_bytes_and_json_in_one_request() -> None:
    pixels = np.float32([[0, 0.25, 0.5]])
    lengths = np.int32([2])
    body, header = with_bytes(
        {
            "inputs": [
                binary({"name": "pixels", "shape": [1, 3], "datatype": "FP32"}, 12),
                {"name": "h", "shape": [1, 1], "datatype": "FP32", "data": [7]},
                binary({"name": "lengths", "shape": [1], "datatype": "INT32"}, 4),
            ]
        },
        pixels.tobytes(),
        lengths.tobytes(),
    )
    request = read(body, header, DIGITS)
    np.testing.assert_array_equal(request.inputs["pixels"], pixels)
    np.testing.assert_array_equal(request.inputs["lengths"], lengths)
    np.testing.assert_array_equal(request.inputs["h"], [[7]])
    assert all(tensor.flags.aligned for tensor in request.inputs.values())


def test_bytes_alone() -> None:
    pixels = np.linspace(0, 1, 784, dtype=np.float32)
    request = read(pixels.tobytes(), "0", DIGITS)
    np.testing.assert_array_equal(request.inputs["pixels"], pixels[None])
    np.testing.assert_array_equal(request.inputs["lengths"], np.int32([784]))
    assert request.outputs == ("probabilities", "trace")
    assert request.binary == {"probabilities", "trace"}


def test_integers() -> None:
    low, high = -(2**31), 2**31 - 1
    state = {"name": "pending", "shape": [2], "datatype": "INT32", "data": [low, high]}
    sound = {"name": "waveform", "shape": [2, HOP], "datatype": "FP32", "data": [0] * 2 * HOP}
    inputs = asked({"inputs": [sound, state]}, FRAMES).inputs
    np.testing.assert_array_equal(inputs["pending"], np.array([low, high], np.int32))


WRONG = [
    ([], "the request is a list; expected an object"),
    ({}, "input pixels (FP32 [-1, -1]) is missing; the request has none"),
    ({"inputs": [LENGTHS]}, "input pixels (FP32 [-1, -1]) is missing; the request has 'lengths'"),
    ({"inputs": {}}, "inputs is an object; expected a list"),
    ({"inputs": [PIXELS], "outputs": "all"}, "outputs is the string 'all'; expected a list"),
    ({"inputs": [PIXELS], "id": 1}, "id is the number 1; expected a string"),
    ({"inputs": [PIXELS], "parameters": []}, "the request: parameters is a list; expected an object"),
    ({"inputs": [7]}, "an entry of inputs is the number 7; expected an object"),
    ({"inputs": [{}]}, "an input has the name null; expected a string"),
    (
        {"inputs": [PIXELS | {"name": "image"}]},
        "there is no input 'image'; digits has pixels (FP32 [-1, -1]), lengths (INT32 [-1]), "
        "h (FP32 [-1, 1])",
    ),
    (
        {"inputs": [PIXELS], "outputs": [{"name": "digit"}]},
        "there is no output 'digit'; digits has probabilities (FP32 [-1, 10]), trace (FP32 [-1, -1, 10]), "
        "h_next (FP32 [-1, 1])",
    ),
    ({"inputs": [PIXELS, PIXELS]}, "input 'pixels' is there twice"),
    ({"inputs": [PIXELS], "outputs": [{"name": "trace"}] * 2}, "output 'trace' is there twice"),
    (
        {"inputs": [PIXELS | {"datatype": "UINT8"}]},
        "input 'pixels' has the datatype 'UINT8'; expected FP32",
    ),
    ({"inputs": [PIXELS | {"datatype": None}]}, "input 'pixels' has the datatype null; expected FP32"),
    (
        {"inputs": [PIXELS | {"shape": [6]}]},
        "input 'pixels' has the shape [6]; expected [-1, -1], where -1 is any size from 1 on",
    ),
    (
        {"inputs": [PIXELS | {"shape": [0, 3]}]},
        "input 'pixels' has the shape [0, 3]; expected [-1, -1], where -1 is any size from 1 on",
    ),
    (
        {"inputs": [PIXELS | {"shape": [2, True]}]},
        "input 'pixels' has the shape [2, true]; expected [-1, -1], where -1 is any size from 1 on",
    ),
    (
        {"inputs": [PIXELS | {"shape": "2x3"}]},
        "input 'pixels' has the shape the string '2x3'; expected [-1, -1], where -1 is any size from 1 on",
    ),
    (
        {"inputs": [PIXELS | {"shape": [2**21, 1]}]},
        f"input 'pixels' has the shape [2097152, 1]; expected at most {MAX_ELEMENTS} elements",
    ),
    (
        {"inputs": [PIXELS, LENGTHS | {"shape": [3], "data": [1, 1, 1]}]},
        "input 'lengths' has the shape [3]: its batch is 3; expected 2, as in the inputs before it",
    ),
    (
        {"inputs": [PIXELS, {"name": "h", "shape": [3, "x" * 1000], "datatype": "FP32", "data": []}]},
        f"input 'h' has the shape [3, the string '{'x' * 40}...']: its batch is 3; expected 2, as in the "
        "inputs before it",
    ),
    (
        {"inputs": [PIXELS, {"name": "h", "shape": [2, 2], "datatype": "FP32", "data": [0] * 4}]},
        "input 'h' has the shape [2, 2]; expected [-1, 1], where -1 is any size from 1 on",
    ),
    (
        {"inputs": [{k: v for k, v in PIXELS.items() if k != "data"}]},
        "input 'pixels' has neither data nor the parameter binary_data_size",
    ),
    (
        {"inputs": [PIXELS | {"parameters": {"binary_data_size": 24}}]},
        "input 'pixels' has both data and the parameter binary_data_size; expected one",
    ),
    (
        {"inputs": [binary(PIXELS, 24)]},
        "input 'pixels' has the parameter binary_data_size, but the request has no header "
        "Inference-Header-Content-Length",
    ),
    (
        {"inputs": [PIXELS | {"parameters": {"shared_memory_region": "a"}}]},
        "input 'pixels': this server does not offer shared_memory_region",
    ),
    (
        {"inputs": [PIXELS], "outputs": [{"name": "trace", "parameters": {"classification": 3}}]},
        "output 'trace': this server does not offer classification",
    ),
    (
        {"inputs": [PIXELS], "outputs": [{"name": "trace", "parameters": {"binary_data": 1}}]},
        "parameter binary_data is the number 1; expected true or false",
    ),
]


@pytest.mark.parametrize(("document", "message"), WRONG)
def test_wrong_requests(document: Any, message: str) -> None:
    assert refused(json.dumps(document).encode()) == message


def test_not_json() -> None:
    assert refused(b"").startswith("the request is not JSON: ")
    assert refused(b"[" * 5000 + b"]" * 5000).startswith("the request is not JSON: ")


def test_too_much_json() -> None:
    assert refused(b" " * (MAX_JSON_BYTES + 1)) == (
        f"the request has {MAX_JSON_BYTES + 1} bytes of JSON; expected at most {MAX_JSON_BYTES}: send the "
        "tensors' data as flat lists, or as binary data"
    )


@pytest.mark.parametrize("container", ["[]", "{}", "[[[[[]]]]]", '{"x":[]}'])
def test_too_many_lists_and_objects(container: str) -> None:
    """They would take many times as much memory as the text, and hold up the event loop."""
    most = (MAX_JSON_CONTAINERS - 4) // (container.count("[") + container.count("{"))
    start, end = '{"inputs":[],"parameters":{"x":[', "]}}"
    assert "is missing" in refused(f"{start}{','.join([container] * most)}{end}".encode())
    assert refused(f"{start}{','.join([container] * (most + 4))}{end}".encode()).endswith(
        f"lists and objects; expected at most {MAX_JSON_CONTAINERS}: send the tensors' data as flat lists, "
        "or as binary data"
    )


def test_a_long_id() -> None:
    assert asked({"id": "x" * MAX_ID, "inputs": [PIXELS]}).id == "x" * MAX_ID
    assert refused(json.dumps({"id": "x" * (MAX_ID + 1)}).encode()) == (
        f"id has {MAX_ID + 1} characters; expected at most {MAX_ID}"
    )


@pytest.mark.parametrize("header", ["", "-1", "1.5", "x", "१", "9" * 30, "+1"])
def test_headers_that_are_no_length(header: str) -> None:
    assert "; expected the number of bytes of JSON that the body begins with" in refused(b"{}", header)


def test_a_header_beyond_the_body() -> None:
    message = "the header Inference-Header-Content-Length is 3; the body has 2 bytes"
    assert refused(b"{}", "3") == message


@pytest.mark.parametrize(
    ("size", "sent", "message"),
    [
        (24, 23, "input 'pixels': binary_data_size is the number 24; the body has 23 bytes left for it"),
        (-1, 24, "input 'pixels': binary_data_size is the number -1; the body has 24 bytes left for it"),
        ("24", 24, "input 'pixels': binary_data_size is the string '24'; the body has 24 bytes left for it"),
        (20, 20, "input 'pixels' has 20 bytes; the shape [2, 3] of FP32 has 24"),
        (24, 25, "the body has 134 bytes; its JSON and its tensors' binary_data_size make 133"),
    ],
)
def test_bytes_of_another_length(size: Any, sent: int, message: str) -> None:
    assert refused(*with_bytes({"inputs": [binary(PIXELS, size)]}, bytes(sent))) == message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bytes_that_are_not_finite(bad: float) -> None:
    pixels = np.float32([[0, 0, 0], [0, bad, 0]])
    message = refused(*with_bytes({"inputs": [binary(PIXELS, 24)]}, pixels.tobytes()))
    assert message == (
        f"input 'pixels': element [1, 1] is the number {bad}; expected a finite number in the range of FP32"
    )


@pytest.mark.parametrize("size", [0, 1, 7])
def test_bytes_alone_of_another_length(size: int) -> None:
    assert refused(bytes(size), "0") == (
        f"the body has {size} bytes; expected a multiple of 4: the tensor pixels (FP32 [-1, -1]) with a "
        "batch of 1"
    )


def test_bytes_alone_are_for_models_of_one_input() -> None:
    document = small_card(b"graph", "two", "1")
    document["inputs"].append({"name": "more", "dtype": "uint8", "shape": ["batch", 3]})
    assert refused(bytes(8), "0", Signature(Card.model_validate(document))) == (
        "a body without JSON is for models that need one input, of one dynamic dimension besides the batch; "
        "two needs pixels (FP32 [-1, -1]), more (UINT8 [-1, 3])"
    )


@given(body=st.binary(max_size=400), header=st.none() | st.integers(0, 400).map(str) | st.text(max_size=5))
def test_whatever_is_sent_is_read_or_refused(body: bytes, header: str | None) -> None:
    try:
        request = read(body, header, DIGITS)
    except InvalidRequestError:
        return
    assert request.inputs["pixels"].nbytes == len(body)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
tensor = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["pixels", "lengths", "h", "h_next"]) | anything,
        "shape": st.lists(st.integers(0, 3), max_size=3) | anything,
        "datatype": st.sampled_from(["FP32", "INT32"]) | anything,
        "data": st.lists(st.integers(-3, 3) | st.floats(0, 1) | anything, max_size=6) | anything,
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "binary_data"]), st.integers(0, 30) | anything
        )
        | anything,
    },
)
document = st.fixed_dictionaries(
    {"inputs": st.lists(tensor, max_size=3) | anything},
    optional={
        "id": anything,
        "outputs": st.lists(tensor, max_size=2) | anything,
        "parameters": st.dictionaries(
            st.sampled_from(["sequence_id", "sequence_start", "priority", "timeout", "binary_data_output"]),
            anything,
        )
        | anything,
    },
)


@given(document=document, tail=st.binary(max_size=40), has_header=st.booleans())
def test_whatever_document_is_sent_is_read_or_refused(document: Any, tail: bytes, has_header: bool) -> None:
    body, header = with_bytes(document, tail if has_header else b"")
    try:
        request = read(body, header if has_header else None, DIGITS)
    except InvalidRequestError:
        return
    assert request.inputs["pixels"].dtype == np.float32
    assert request.inputs["lengths"].shape == request.inputs["pixels"].shape[:1]


@given(data=st.data(), rows=st.integers(1, 3), size=st.integers(1, 4))
def test_the_ways_to_send_a_tensor_are_the_same(data: st.DataObject, rows: int, size: int) -> None:
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = data.draw(
        st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=rows, max_size=rows)
    )
    tensor = np.array(values, np.float32)
    item = {"name": "pixels", "shape": [rows, size], "datatype": "FP32"}
    ways = [
        asked({"inputs": [item | {"data": tensor.tolist()}]}),
        asked({"inputs": [item | {"data": tensor.ravel().tolist()}]}),
        read(*with_bytes({"inputs": [binary(item, tensor.nbytes)]}, tensor.tobytes()), DIGITS),
    ]
    for request in ways:
        np.testing.assert_array_equal(request.inputs["pixels"], tensor)


def test_the_shipped_cards_are_understood() -> None:
    store = Path(__file__).parents[3] / "exports" / "store"
    for path in store.glob("*/*/card.json"):
        signature = Signature(Card.read(path))
        needed = [type_ for type_ in signature.inputs.values() if not type_.optional]
        assert [type_.dims for type_ in needed] == [[-1, -1]]
        assert signature.counted in needed
