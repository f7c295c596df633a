"""The parameters that mean something, and what is refused as one."""

from __future__ import annotations

from typing import Any

import pytest

from service.v2.errors import InvalidRequestError
from service.v2.parameters import Parameters, SequenceStep, read


def test_none() -> None:
    nothing = Parameters(priority=2, timeout=None, sequence=None, binary_data_output=False)
    zeros = {"priority": 0, "timeout": 0, "sequence_id": 0, "sequence_start": False, "sequence_end": False}
    for sent in (None, {}, {"note": "mine", "triton_x": 1, "headers": "y"}, zeros, {"sequence_id": ""}):
        assert read(sent) == nothing


@pytest.mark.parametrize("name", [1, 2**64 - 1, "7", "call of 10:30"])
def test_a_step_of_a_sequence(name: int | str) -> None:
    assert read({"sequence_id": name}).sequence == SequenceStep(name, start=False, end=False)
    sent = {"sequence_id": name, "sequence_start": True, "sequence_end": True}
    assert read(sent).sequence == SequenceStep(name, start=True, end=True)


def test_when() -> None:
    assert read({"priority": 3, "timeout": 250_000}) == Parameters(priority=3, timeout=0.25)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"priority": 4}, "parameter priority is the number 4; expected an integer from 0 to 3"),
        ({"priority": True}, "parameter priority is true; expected an integer from 0 to 3"),
        ({"timeout": 0.5}, "parameter timeout is the number 0.5; expected an integer from 0 to "),
        ({"timeout": -1}, "parameter timeout is the number -1; expected an integer from 0 to "),
        ({"sequence_id": -1}, "parameter sequence_id is the number -1; expected a string or an integer "),
        ({"sequence_id": None}, "parameter sequence_id is null; expected a string or an integer from 0 to "),
        ({"sequence_id": "x" * 257}, "parameter sequence_id has 257 characters; expected at most 256"),
        (
            {"sequence_id": 1, "sequence_start": 1},
            "parameter sequence_start is the number 1; expected true or false",
        ),
        (
            {"sequence_start": True},
            "parameters sequence_start and sequence_end are for a sequence; expected ",
        ),
        (
            {"binary_data_output": "yes"},
            "parameter binary_data_output is the string 'yes'; expected true or ",
        ),
    ],
)
def test_wrong_parameters(sent: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(sent)
    assert str(caught.value).startswith(message)
