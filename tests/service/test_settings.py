"""Settings come from flags, then the environment, then defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MOMENTUM_{name.upper()}", raising=False)


def test_defaults() -> None:
    settings = Settings.from_command_line([])
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.store.parts[-2:] == ("exports", "store")
    assert (settings.device, settings.lanes) == ("auto", None)


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTUM_PORT", "1234")
    monkeypatch.setenv("MOMENTUM_MAX_BATCH", "7")
    monkeypatch.setenv("MOMENTUM_LOG_LEVEL", "")
    monkeypatch.setenv("MOMENTUM_DATA", "another part's setting")
    settings = Settings.from_command_line(["--port", "4321", "--store", "elsewhere"])
    assert (settings.port, settings.max_batch, settings.log_level) == (4321, 7, "info")
    assert settings.store == Path("elsewhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--port", "99999"],
            "--port or MOMENTUM_PORT: Input should be less than or equal to 65535, not '99999'",
        ),
        (["--lanes", "0"], "--lanes or MOMENTUM_LANES: Input should be greater than or equal to 1, not '0'"),
        (["--log-format", "xml"], "--log-format or MOMENTUM_LOG_FORMAT: Input should be 'auto'"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_bad_flags_end_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        Settings.from_command_line(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m service: ")
    assert message in error


def test_a_bad_variable_ends_with_status_2_and_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOMENTUM_MAX_BODY_BYTES", "lots")
    with pytest.raises(SystemExit) as exit_:
        Settings.from_command_line([])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(
        "python -m service: --max-body-bytes or MOMENTUM_MAX_BODY_BYTES: Input should be a valid integer"
    )


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is printed of settings that are refused."""
    with pytest.raises(SystemExit) as exit_:
        Settings.from_command_line(arguments)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--min-sample-rate", "9000", "--max-sample-rate", "8000"],
            "--min-sample-rate 9000 is above --max-",
        ),
        (["--max-batch", "9", "--queue-rows", "8"], "--max-batch 9 is above --queue-rows 8: such a batch"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(arguments, capsys).startswith(f"python -m service: {message}")


def test_a_short_queue_needs_no_other_setting() -> None:
    assert Settings.from_command_line(["--queue-rows", "8"]).queue_rows == 8


def test_what_kubernetes_sets_is_told_from_a_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOMENTUM_PORT", "tcp://10.0.0.7:80")
    line = refused([], capsys)
    assert "MOMENTUM_PORT: " in line
    assert "not 'tcp://10.0.0.7:80': Kubernetes sets that" in line
    assert "enableServiceLinks: false" in line


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        Settings.from_command_line(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in shown for name in Settings.model_fields)
