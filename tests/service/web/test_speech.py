"""Speech on the page: recordings, a microphone, and lost connections."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[3]
DIGITS = ROOT / "docs" / "audio" / "digits.wav"

Open = Callable[..., Any]


def test_a_bundled_recording_is_heard(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.click(".example >> nth=0")
        visited.shows("#frames-note", "In all most like “7”")
        assert visited.text("#label") == "7"
        assert re.search(r"7 0\.21.0\.59 s", visited.text("#segments"))
        assert int(visited.page.get_attribute("#posteriorgram", "data-frames")) == 78
        assert visited.page.is_disabled("#stop")


def test_the_microphone_is_heard(listening_browser: Any, server: Any, visit: Open) -> None:
    with visit(listening_browser, server.url) as visited:
        visited.page.click("#microphone")
        visited.page.locator("#segments li b", has_text="7").first.wait_for(timeout=60_000)
        assert visited.page.get_attribute("#microphone", "aria-pressed") == "true"
        visited.page.click("#microphone")
        visited.shows("#frames-note", "In all most like")
        assert visited.page.get_attribute("#microphone", "aria-pressed") == "false"


def test_a_refused_microphone_is_told(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.click("#microphone")
        visited.page.locator("#frames-problem", has_text="Upload a recording, or play").or_(
            visited.page.locator("#frames-problem", has_text="Allow it in the browser")
        ).wait_for(timeout=60_000)


def test_a_file_that_is_no_recording(browser: Any, server: Any, visit: Open, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_bytes(b"not a recording")
    with visit(browser, server.url) as visited:
        visited.page.set_input_files("#recording", tmp_path / "notes.wav")
        visited.shows("#frames-problem", "This is no recording that this browser can read.")


def test_stopping_tells_what_was_heard(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.set_input_files("#recording", DIGITS)
        visited.page.locator("#segments li").first.wait_for(timeout=60_000)
        visited.page.click("#stop")
        visited.shows("#frames-note", "In all most like")


def test_a_server_that_comes_back_is_gone_on_with(
    browser: Any, serve: Any, visit: Open, tmp_path: Path
) -> None:
    """It is killed in the middle of a recording and started again: the page says so and goes on."""
    samples, rate = soundfile.read(DIGITS, dtype="int16")
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 12), rate)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serve("--port", port) as first, visit(browser, first.url, quiet=False) as visited:
        visited.page.set_input_files("#recording", tmp_path / "long.wav")
        visited.page.locator("#segments li").first.wait_for(timeout=60_000)
        first.process.kill()
        first.process.wait()
        visited.shows("#frames-problem", "The connection is lost.")
        before = visited.page.locator("#segments li").count()
        with serve("--port", port):
            visited.shows("#frames-note", "Connected again")
            assert not visited.page.is_visible("#frames-problem")
            visited.page.locator("#segments li").nth(before).wait_for(timeout=60_000)
            visited.page.click("#stop")
            visited.shows("#frames-note", "In all most like")


def test_a_server_that_stays_away_is_told(browser: Any, serve: Any, visit: Open) -> None:
    with serve() as server, visit(browser, server.url, quiet=False) as visited:
        server.process.kill()
        server.process.wait()
        visited.page.click(".example >> nth=0")
        visited.shows("#frames-problem", "The server does not answer.")
        visited.page.set_input_files("#image", ROOT / "docs" / "images" / "seven.jpg")
        visited.shows("#digits-problem", "The server does not answer.")


@pytest.mark.parametrize("kind", ["light", "dark"])
def test_everybody_can_use_it(browser: Any, server: Any, visit: Open, kind: str) -> None:
    """axe-core finds nothing, before and after there is something to see."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core is not installed: make setup"
    )
    with visit(browser, server.url, color_scheme=kind, bypass_csp=True) as visited:
        assert axe.Axe().run(visited.page).generate_report().startswith("Found 0 ")
        visited.page.click(".example >> nth=0")
        visited.page.click("summary")
        visited.shows("#frames-note", "In all most like")
        found = axe.Axe().run(visited.page)
        assert found.generate_report().startswith("Found 0 "), found.generate_report()
