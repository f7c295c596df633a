"""The elements of a tensor in JSON: flat or nested, and nothing but what the datatype holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from service.v2.errors import InvalidRequestError
from service.v2.signature import TensorType
from service.v2.tensors import from_json

FP32 = TensorType("x", "FP32", np.dtype("float32"), ("batch", "time"))
UINT8 = TensorType("x", "UINT8", np.dtype("uint8"), ("batch", "time"))
INT64 = TensorType("x", "INT64", np.dtype("int64"), ("batch", "time"))
CUBE = TensorType("x", "FP32", np.dtype("float32"), ("batch", 2, 2))


def refused(data: Any, type_: TensorType, shape: Sequence[int]) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        from_json(data, type_, shape)
    return str(caught.value)


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6, 7, 8], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]])
def test_flat_and_nested(data: Any) -> None:
    tensor = from_json(data, CUBE, [2, 2, 2])
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, np.arange(1, 9).reshape(2, 2, 2))


@pytest.mark.parametrize(
    ("data", "found", "dimension"),
    [
        ([[[1, 2], [3, 4]]], "a list of 1", 0),
        ([[[1, 2]], [[5, 6], [7, 8]]], "a list of 1", 1),
        ([[[1, 2], [3, 4]], [[5, 6], [7, 8, 9]]], "a list of 3", 2),
        ([[[1, 2], [3, 4]], 5], "the number 5", 1),
        ([[1, 2], [3, 4]], "the number 1", 2),
        ([[[1, 2], [3, 4]], [[5, 6], None]], "null", 2),
        ([[], []], "a list of 0", 1),
    ],
)
def test_nested_otherwise_than_the_shape_says(data: Any, found: str, dimension: int) -> None:
    assert refused(data, CUBE, [2, 2, 2]) == (
        f"input 'x': data holds {found} where its dimension {dimension} is; expected lists nested as the "
        "shape [2, 2, 2] says, or a flat list of 8 elements"
    )


def test_nested_too_deep() -> None:
    data = [[[[1], [2]], [[3], [4]]]]
    message = "input 'x': element [0, 0, 0] is a list; expected a finite number in the range of FP32"
    assert refused(data, CUBE, [1, 2, 2]) == message


@pytest.mark.parametrize("data", [[], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_another_number_of_elements(data: Any) -> None:
    assert refused(data, FP32, [2, 2]) == f"input 'x': data has {len(data)} elements; the shape [2, 2] has 4"


@pytest.mark.parametrize(
    ("data", "found"), [(None, "null"), ("1234", "the string '1234'"), ({}, "an object")]
)
def test_no_list(data: Any, found: str) -> None:
    assert refused(data, FP32, [2, 2]) == f"input 'x': data is {found}; expected a list of 4 elements"


@pytest.mark.parametrize(
    ("element", "found"),
    [
        (True, "true"),
        (None, "null"),
        ("1", "the string '1'"),
        ("9" * 50, f"the string '{'9' * 40}...'"),
        ([], "a list"),
        ({}, "an object"),
        (1e39, "the number 1e+39"),
        (-1e39, "the number -1e+39"),
    ],
)
def test_elements_that_are_no_float(element: Any, found: str) -> None:
    assert refused([0, 0.5, element, 1], FP32, [2, 2]) == (
        f"input 'x': element [1, 0] is {found}; expected a finite number in the range of FP32"
    )


@pytest.mark.parametrize(
    ("type_", "limits"), [(UINT8, "0 to 255"), (INT64, "-9223372036854775808 to 9223372036854775807")]
)
@pytest.mark.parametrize(
    ("element", "found"),
    [
        (2**63, "the number 9223372036854775808"),
        (0.5, "the number 0.5"),
        (1.0, "the number 1"),
        (False, "false"),
    ],
)
def test_elements_that_are_no_integer(type_: TensorType, limits: str, element: Any, found: str) -> None:
    assert refused([0, 0, element, 1], type_, [2, 2]) == (
        f"input 'x': element [1, 0] is {found}; expected an integer from {limits}"
    )


def test_integers_at_their_limits() -> None:
    np.testing.assert_array_equal(from_json([0, 255], UINT8, [1, 2]), np.uint8([[0, 255]]))
    low, high = -(2**63), 2**63 - 1
    np.testing.assert_array_equal(from_json([low, high], INT64, [1, 2]), np.array([[low, high]]))
