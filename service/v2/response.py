"""An inference's answer: JSON, or JSON with the tensors' bytes behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from service.engine import Tensor
from service.v2.errors import InvalidRequestError
from service.v2.request import InferRequest
from service.v2.signature import Signature

MAX_JSON_ELEMENTS = 2**19  # 50 ms of the event loop, as with requests


def render(
    request: InferRequest, signature: Signature, outputs: Mapping[str, Tensor]
) -> tuple[bytes, int | None]:
    """The answer's body, and how many bytes of it are JSON if others follow.

    Args:
        request: what was asked.
        signature: of the model that answered.
        outputs: what was asked for.

    Raises:
        InvalidRequestError: so much was asked for as JSON that nobody else would be served meanwhile.
    """
    described = []
    raw: list[Tensor] = []
    in_json = 0
    for name in request.outputs:
        tensor = np.ascontiguousarray(outputs[name])
        output: dict[str, Any] = {
            "name": name,
            "datatype": signature.outputs[name].datatype,
            "shape": tensor.shape,
        }
        if name in request.binary:
            output["parameters"] = {"binary_data_size": tensor.nbytes}
            raw.append(tensor)
        else:
            in_json += tensor.size
            output["data"] = tensor.ravel()
        described.append(output)
    if in_json > MAX_JSON_ELEMENTS:
        sizes = ", ".join(f"{name!r} has {outputs[name].size}" for name in request.outputs)
        raise InvalidRequestError(
            f"the outputs asked for as JSON have {in_json} elements ({sizes}); expected at most "
            f"{MAX_JSON_ELEMENTS}: ask for fewer outputs, or for binary data"
        )
    answer: dict[str, Any] = {
        "model_name": signature.card.name,
        "model_version": signature.card.version,
        "outputs": described,
    }
    if request.id is not None:
        answer["id"] = request.id
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return text, None
    return b"".join([text, *(tensor.data for tensor in raw)]), len(text)
