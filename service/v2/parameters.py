"""A request's parameters: when it is to be answered, and which sequence it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.engine.batching import DEFAULT_PRIORITY, LOWEST_PRIORITY
from service.http.words import describe
from service.v2.errors import InvalidRequestError

_UINT64 = 2**64 - 1
_LONGEST_ID = 256


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """A request's place in a sequence of requests, which share the model's state.

    Attributes:
        id: the client's name for the sequence. 7 and "7" are two.
        start: it is the first one.
        end: it is the last one.
    """

    id: int | str
    start: bool
    end: bool


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters that mean something here. Others are left to the client.

    Attributes:
        priority: the engine's; the protocol's 0 is the default.
        timeout: seconds in which it has to be answered, None without such a limit. The protocol counts
            microseconds, and 0 is none.
        sequence: None for a request that stands alone.
        binary_data_output: whether outputs come as bytes where the request does not say.
    """

    priority: int = DEFAULT_PRIORITY
    timeout: float | None = None
    sequence: SequenceStep | None = None
    binary_data_output: bool = False


_NONE = Parameters()


def read(parameters: Mapping[str, Any] | None) -> Parameters:
    """Read a request's `parameters`.

    Raises:
        InvalidRequestError: one of those that mean something is of another type, or out of range.
    """
    if not parameters:
        return _NONE
    timeout = _integer(parameters, "timeout", _UINT64)
    return Parameters(
        _integer(parameters, "priority", LOWEST_PRIORITY) or DEFAULT_PRIORITY,
        timeout / 1e6 if timeout else None,
        _sequence(parameters),
        boolean(parameters, "binary_data_output", False),
    )


def boolean(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """A parameter that is true or false.

    Raises:
        InvalidRequestError: it is neither.
    """
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"parameter {name} is {describe(value)}; expected true or false")
    return value


def _integer(parameters: Mapping[str, Any], name: str, highest: int) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= highest:
        raise InvalidRequestError(
            f"parameter {name} is {describe(value)}; expected an integer from 0 to {highest}"
        )
    return value


def _sequence(parameters: Mapping[str, Any]) -> SequenceStep | None:
    start = boolean(parameters, "sequence_start", False)
    end = boolean(parameters, "sequence_end", False)
    name = parameters.get("sequence_id", 0)
    if isinstance(name, str):
        if len(name) > _LONGEST_ID:
            raise InvalidRequestError(
                f"parameter sequence_id has {len(name)} characters; expected at most {_LONGEST_ID}"
            )
    elif type(name) is not int or not 0 <= name <= _UINT64:
        raise InvalidRequestError(
            f"parameter sequence_id is {describe(name)}; expected a string or an integer from 0 to {_UINT64}"
        )
    if name:
        return SequenceStep(name, start, end)
    if start or end:
        raise InvalidRequestError(
            "parameters sequence_start and sequence_end are for a sequence; expected its sequence_id, which "
            "is neither 0 nor empty"
        )
    return None
