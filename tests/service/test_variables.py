"""Variables that are no settings are told of, and those that are somebody else's are not."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from service import variables
from service.settings import Settings


def warned(*names: str) -> list[tuple[str, str | None]]:
    with capture_logs() as logged:
        variables.warn(dict.fromkeys(names, "1"), Settings.model_fields)
    assert all((line["event"], line["log_level"]) == ("unknown variable", "warning") for line in logged)
    return [(line["name"], line.get("nearest")) for line in logged]


def test_what_nothing_reads_is_told_with_what_may_be_meant() -> None:
    assert warned("MOMENTUM_MAX_BODY_BYTE", "MOMENTUM_XYZZY", "momentum_prot", "PATH") == [
        ("MOMENTUM_MAX_BODY_BYTE", "MOMENTUM_MAX_BODY_BYTES"),
        ("MOMENTUM_XYZZY", None),
        ("momentum_prot", "MOMENTUM_PORT"),
    ]


def test_settings_and_what_training_reads_are_known() -> None:
    assert warned(*(f"MOMENTUM_{name.upper()}" for name in Settings.model_fields), "MOMENTUM_DATA") == []


@pytest.mark.parametrize("service", ["MOMENTUM", "MOMENTUM_SERVE"])
@pytest.mark.parametrize(
    "ending",
    [
        "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP", "PORT_8000_TCP_PROTO",
        "PORT_8000_TCP_PORT", "PORT_8000_TCP_ADDR",
    ],
)  # fmt: skip
def test_what_kubernetes_makes_is_not_told(service: str, ending: str) -> None:
    assert warned(f"{service}_{ending}") == []
