"""What the API's description says of the routes that read their requests themselves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from service.digits.examples import SEVEN
from service.v2.message import MAX_ID

_NAME = {"type": "string", "minLength": 1}
_MODEL = {"name": "model", "in": "path", "required": True, "schema": _NAME, "description": "A model's name."}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": _NAME,
    "description": "A version of it; without one, the newest that is ready is meant.",
}
HEADER_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 0},
    "description": "How many bytes of the body are JSON, if tensors' bytes follow. 0: the body is the bytes "
    "of the model's one input, of a batch of 1.",
}

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What was sent, and what was expected."}},
}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """The parameters that a path has."""
    return [parameter for parameter in (_MODEL, _VERSION) if f"{{{parameter['name']}}}" in path]


def answers(model: type[BaseModel] | None, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses`: JSON of this model, None for any, and errors of these statuses."""
    content = {"application/json": {"schema": {"type": ["object", "array"]}}}
    answer: dict[int | str, dict[str, Any]] = {
        200: {"content": content, "description": "The answer"} if model is None else {"model": model}
    }
    return answer | errors(*statuses)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for errors of these statuses."""
    content = {"application/json": {"schema": _ERROR}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


_PARAMETERS = {
    "type": ["object", "null"],
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "datatype": {"type": "string", "examples": ["FP32", "INT32"]},
        "parameters": _PARAMETERS,
        "data": {
            "type": "array",
            "description": "The elements in row-major order, flat or nested. Without it, the parameter "
            "`binary_data_size` tells how many bytes after the JSON are the tensor's.",
        },
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {
            "type": ["string", "null"],
            "maxLength": MAX_ID,
            "description": "The answer repeats it.",
        },
        "parameters": {
            **_PARAMETERS,
            "properties": {
                "sequence_id": {"type": ["string", "integer"]},
                "sequence_start": {"type": "boolean"},
                "sequence_end": {"type": "boolean"},
                "priority": {"type": "integer", "minimum": 0, "maximum": 3},
                "timeout": {"type": "integer", "minimum": 0, "description": "Microseconds."},
                "binary_data_output": {"type": "boolean"},
            },
        },
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": ["array", "null"],
            "items": _OUTPUT,
            "description": "What to answer; without it, all outputs of the model.",
        },
    },
}
_RESPONSE = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}
_SEVEN = [round(pixel / 255, 3) for row in SEVEN for pixel in row]
_EXAMPLE = {
    "id": "1",
    "inputs": [{"name": "pixels", "shape": [1, len(_SEVEN)], "datatype": "FP32", "data": _SEVEN}],
    "outputs": [{"name": "probabilities"}],
}
_BINARY = {"type": "string", "format": "binary"}

INFER_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _REQUEST,
            "examples": {"one digit": {"summary": "One digit, for the model `digits`", "value": _EXAMPLE}},
        },
        "application/octet-stream": {"schema": _BINARY},
    },
}
REPOSITORY_BODY: dict[str, Any] = {
    "required": False,
    "content": {"application/json": {"schema": {"type": "object"}}},
}
INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs that were asked for",
        "content": {
            "application/json": {"schema": _RESPONSE},
            "application/octet-stream": {"schema": _BINARY},
        },
    },
    **errors(400, 404, 409, 413, 415, 429, 500, 503, 504),
}
