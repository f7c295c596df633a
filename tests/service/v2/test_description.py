"""The description of the protocol's endpoints is true: its example works, and generated requests get
documented answers.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.openapi.loaders import from_url
from schemathesis.specs.openapi.checks import positive_data_acceptance

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
    schema = from_url(f"{small_server.url}/openapi.json")
    (operation,) = schema[path].values()
    cases = [operation.as_strategy(), operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)]

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=st.one_of(cases), known=st.booleans())
    def check(case: Case, known: bool) -> None:
        if known and case.path_parameters:
            case.path_parameters["model"] = "digits"
        # A schema cannot say which tensors fit a model.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()
