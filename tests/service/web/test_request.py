"""The page's request and its answer, copied, and sent again by a shell."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import draw

ROOT = Path(__file__).resolve().parents[3]
SEVEN = ROOT / "docs" / "images" / "seven.jpg"
MAY_COPY = {"permissions": ["clipboard-read", "clipboard-write"]}
NO_CLIPBOARD = "() => Object.defineProperty(navigator, 'clipboard', { value: undefined })"

Open = Callable[..., Any]


def copied(page: Any, name: str) -> str:
    """What a button copies."""
    button = page.get_by_role("button", name=name)
    button.click()
    page.get_by_role("button", name="Copied").wait_for(timeout=60_000)
    button.wait_for(timeout=60_000)
    return str(page.evaluate("() => navigator.clipboard.readText()"))


def run(command: str, folder: Path) -> str:
    """What a shell prints."""
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout


def said(answer: str) -> dict[str, Any]:
    """An answer but for the time that it took."""
    document: dict[str, Any] = json.loads(answer)
    assert document.pop("milliseconds") > 0
    return document


def test_a_drawn_digits_request_and_answer_are_copied_whole(
    browser: Any, server: Any, visit: Open, tmp_path: Path
) -> None:
    with visit(browser, server.url, **MAY_COPY) as visited:
        with visited.page.expect_response("**/v1/digits*") as asked:
            draw(visited.page, "3")
        visited.shows("#digit", "3")
        url, received = asked.value.url, asked.value.text()
        visited.page.click("summary")
        command, answer = copied(visited.page, "Copy command"), copied(visited.page, "Copy JSON")
        shown_command, shown_answer = visited.text("#digits-curl"), visited.text("#digits-json")
        picture = visited.page.evaluate("() => document.getElementById('paper').toDataURL()")
    assert answer == received
    assert len(json.loads(answer)["trace"]["probabilities"]) == 784
    assert said(run(command, tmp_path)) == said(answer)
    words = shlex.split(command)
    assert words[:5] == ["echo", picture.removeprefix("data:image/png;base64,"), "|", "base64", "--decode"]
    assert url in words
    assert f"…({len(words[1])} characters)" in shown_command
    assert len(shown_command) < 250
    assert shown_answer.startswith('{"digit":3,"probabilities":[')
    assert '"steps":[1,2,3,"… 781 more"]' in shown_answer


def test_an_uploaded_images_request_is_sent_again(
    browser: Any, server: Any, visit: Open, tmp_path: Path
) -> None:
    with visit(browser, server.url, **MAY_COPY) as visited:
        visited.page.set_input_files("#image", SEVEN)
        visited.shows("#digit", "7")
        visited.page.click("summary")
        command, answer = copied(visited.page, "Copy command"), copied(visited.page, "Copy JSON")
    assert base64.b64decode(shlex.split(command)[1]) == SEVEN.read_bytes()
    assert said(run(command, tmp_path)) == said(answer)


def test_a_large_image_is_named_in_the_command(
    browser: Any, server: Any, visit: Open, tmp_path: Path
) -> None:
    """It would be too long a line; the name is the file's own, whatever is in it."""
    path = tmp_path / "it's a $seven.jpg"
    path.write_bytes(SEVEN.read_bytes() + bytes(2**16))
    with visit(browser, server.url, **MAY_COPY) as visited:
        visited.page.set_input_files("#image", path)
        visited.shows("#digit", "7")
        visited.page.click("summary")
        command, answer = copied(visited.page, "Copy command"), copied(visited.page, "Copy JSON")
    assert re.match("curl 'http", command)
    assert said(run(command, tmp_path)) == said(answer)


def test_nothing_is_copied_before_there_is_something(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.click("summary")
        buttons = [visited.page.get_by_role("button", name=name) for name in ("Copy command", "Copy JSON")]
        assert all(button.is_disabled() for button in buttons)
        draw(visited.page, "1")
        visited.shows("#digit", "1")
        assert not any(button.is_disabled() for button in buttons)
        visited.page.click("#clear")
        assert all(button.is_disabled() for button in buttons)
        assert visited.text("#digits-curl") == "Draw something first."
        assert visited.text("#digits-json") == ""


@pytest.mark.parametrize("name", ["Copy command", "Copy JSON"])
def test_without_a_clipboard_the_whole_is_selected(browser: Any, server: Any, visit: Open, name: str) -> None:
    """As on a page that comes neither from https nor from localhost."""
    with visit(browser, server.url) as visited:
        visited.page.evaluate(NO_CLIPBOARD)
        draw(visited.page, "1")
        visited.shows("#digit", "1")
        visited.page.click("summary")
        visited.page.get_by_role("button", name=name).click()
        visited.page.get_by_role("button", name="Selected: copy it").wait_for(timeout=60_000)
        selected = visited.page.evaluate("() => getSelection().toString()")
    if name == "Copy JSON":
        assert len(said(selected)["trace"]["steps"]) == 784
    else:
        assert shlex.split(selected)[:5:2] == ["echo", "|", "--decode"]
        assert "…" not in selected
