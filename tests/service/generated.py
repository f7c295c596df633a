"""Requests that are made up from the API's description, right ones and wrong ones."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.openapi.loaders import from_url
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.http.deadline import TIMEOUT

PATIENCE = 30  # seconds


def check_generated(server: Any, path: str, examples: int = 60, model: str = "digits") -> None:
    """Send an operation generated requests, some of them for this model, and check that their answers are as
    documented.
    """
    (operation,) = from_url(f"{server.url}/openapi.json")[path].values()
    check_operation(operation, examples, {"model": model})


def check_operation(operation: Any, examples: int, known: dict[str, str]) -> None:
    """The same of one that has been read.

    Args:
        operation: schemathesis's.
        examples: how many requests.
        known: parameters in paths that some requests have instead of generated ones.
    """
    cases = [operation.as_strategy(), operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(cases), replaced=st.sets(st.sampled_from([*known])))
    def check(case: Case, replaced: set[str]) -> None:
        for name in replaced & (case.path_parameters or {}).keys():
            case.path_parameters[name] = known[name]
        if (
            0 < _number(case.headers.get(TIMEOUT)) < PATIENCE
        ):  # 504 is right then, and a failure to schemathesis
            case.headers[TIMEOUT] = str(PATIENCE)
        # A schema cannot say which tensors fit a model, what an audio file is, or that an image must show
        # something.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return 0
