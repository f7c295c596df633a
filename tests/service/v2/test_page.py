"""The examples of docs/protocol.md, run from the page against the shipped models."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
URL = "http://127.0.0.1:8000"

# Each command, and the JSON behind it if the page shows its answer.
COMMANDS = re.findall(r"\n\n((?:    .+\n)+)(?:\n```json\n((?:[^`].*\n)+)```)?", PAGE)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def shape(value: Any) -> Any:
    """What a document is like, whatever its numbers and the model's version."""
    match value:
        case dict():
            return {name: shape(inner) for name, inner in value.items()}
        case list():
            return [shape(inner) for inner in value]
        case float():
            return "a number"
        case str() if value.isdecimal():
            return "a version"
        case _:
            return value


@pytest.mark.parametrize(("command", "answer"), COMMANDS)
def test_commands(server: Any, tmp_path: Path, command: str, answer: str) -> None:
    assert URL in command
    fails = answer.startswith('{"error"')
    flags = "--silent --show-error" if fails else "--silent --show-error --fail"
    script = f'curl() {{ command curl {flags} "$@"; }}\n{command.replace(URL, server.url)}'
    ended = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    if answer:
        assert shape(json.loads(ended.stdout)) == shape(json.loads(answer))


@pytest.mark.parametrize("example", PYTHON)
def test_python(server: Any, example: str) -> None:
    names: dict[str, Any] = {}
    exec(example.replace(URL.removeprefix("http://"), "{}:{}".format(*server.address)), names)  # noqa: S102
    np.testing.assert_allclose(names["probabilities"].sum(axis=1), 1, atol=1e-5)
