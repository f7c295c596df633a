"""The description of the protocol's endpoints is true: its example works, and generated requests get
documented answers.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.generated import check_generated

INFER = "/v2/models/{model}/infer"


def test_the_example_works(server: Any) -> None:
    description = server.client.get("/openapi.json").json()
    body = description["paths"][INFER]["post"]["requestBody"]
    example = body["content"]["application/json"]["examples"]["one digit"]["value"]
    answer = server.client.post("/v2/models/digits/infer", json=example).json()
    (output,) = answer["outputs"]
    assert output["name"] == "probabilities"
    assert max(range(10), key=output["data"].__getitem__) == 7


@pytest.mark.parametrize(
    "path",
    [
        INFER,
        "/v2/models/{model}",
        "/v2/models/{model}/stats",
        "/v2/models/stats",
        "/v2/repository/index",
        "/v2",
    ],
)
def test_generated_requests_get_documented_answers(small_server: Any, path: str) -> None:
    check_generated(small_server, path)
