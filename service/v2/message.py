"""A request's body, as far as it can be read without knowing the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from service.http.documents import JSONTooLargeError, read_json
from service.http.words import describe, quote
from service.v2 import parameters as parameters_
from service.v2.errors import InvalidRequestError
from service.v2.parameters import Parameters

# JSON is read on the event loop: orjson keeps Python's lock, so that another thread would hold up the loop
# all the same. The worst within these bounds, a million digits in short rows, takes 70 ms until it is a
# tensor; images take 10.
MAX_JSON_BYTES = 2**21  # 130 images or more; what is larger can come as bytes, which cost nothing
MAX_JSON_CONTAINERS = 2**14
MAX_ID = 1024  # characters; kept while the request waits


@dataclass(frozen=True, slots=True)
class Message:
    """What was sent.

    Attributes:
        body: the whole of it.
        document: its JSON; None if it has none, and is the model's input.
        start: where tensors' bytes begin in the body; None if there can't be any.
        id: the client's name for the request, if it gave one.
        parameters: the request's, not its tensors'.
    """

    body: bytes
    document: dict[str, Any] | None
    start: int | None
    id: str | None
    parameters: Parameters


def parse(body: bytes, header_length: str | None) -> Message:
    """
    Args:
        body: the whole of it.
        header_length: the header Inference-Header-Content-Length: how many bytes of the body are JSON, before
            the tensors' bytes. None: all of them. 0: none, the body is the model's input.

    Raises:
        InvalidRequestError
    """
    if header_length is None:
        return _parse(body, body, None)
    if not (header_length.isascii() and header_length.isdecimal() and len(header_length) < 20):
        raise InvalidRequestError(
            f"the header Inference-Header-Content-Length is {quote(header_length)}; expected the number of "
            "bytes of JSON that the body begins with"
        )
    length = int(header_length)
    if length == 0:
        return Message(body, None, 0, None, Parameters())
    if length > len(body):
        raise InvalidRequestError(
            f"the header Inference-Header-Content-Length is {length}; the body has {len(body)} bytes"
        )
    return _parse(body, body[:length], length)


def _parse(body: bytes, text: bytes, start: int | None) -> Message:
    try:
        document = read_json(text, MAX_JSON_BYTES, MAX_JSON_CONTAINERS)
    except JSONTooLargeError as error:
        raise InvalidRequestError(
            f"the request has {error}: send the tensors' data as flat lists, or as binary data"
        ) from None
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the request is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequestError(f"the request is {describe(document)}; expected an object")
    id_ = document.get("id")
    if not (id_ is None or isinstance(id_, str)):
        raise InvalidRequestError(f"id is {describe(id_)}; expected a string")
    if id_ is not None and len(id_) > MAX_ID:
        raise InvalidRequestError(f"id has {len(id_)} characters; expected at most {MAX_ID}")
    return Message(body, document, start, id_, parameters_.read(parameters_of(document, "the request")))


def parameters_of(item: dict[str, Any], owner: str) -> dict[str, Any]:
    """The parameters of a request, or of a tensor in it.

    Raises:
        InvalidRequestError: they are no object.
    """
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"{owner}: parameters is {describe(parameters)}; expected an object")
    return parameters
