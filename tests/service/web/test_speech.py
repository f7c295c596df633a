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

from tests.service.web.proxy import between

ROOT = Path(__file__).resolve().parents[3]
DIGITS = ROOT / "docs" / "audio" / "digits.wav"
PHONE = {"viewport": {"width": 390, "height": 844}}

# Keeps what the page opens, to look at.
KEEP_MEDIA = """() => {
  const { mediaDevices } = navigator;
  const open = mediaDevices.getUserMedia.bind(mediaDevices);
  window.media = [];
  mediaDevices.getUserMedia = async (wanted) => {
    const stream = await open(wanted);
    window.media.push(stream);
    return stream;
  };
}"""
TWICE = "(element) => { element.click(); element.click(); }"
LIVE_TRACKS = """() => window.media.flatMap((stream) => stream.getTracks())
  .filter((track) => track.readyState === "live").length"""

Open = Callable[..., Any]


def test_a_bundled_recording_is_heard(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.click(".example >> nth=0")
        visited.shows("#frames-note", "Done: “7”")
        assert visited.text("#label") == "7"
        assert re.search(r"7 0\.21.0\.59 s", visited.text("#segments"))
        visited.page.locator('#posteriorgram[data-frames="78"]').wait_for(
            timeout=60_000
        )  # drawn a frame later
        assert visited.page.is_disabled("#stop")


def test_the_microphone_is_heard(listening_browser: Any, server: Any, visit: Open) -> None:
    with visit(listening_browser, server.url) as visited:
        visited.page.click("#microphone")
        visited.page.locator("#segments li b", has_text="7").first.wait_for(timeout=60_000)
        assert visited.page.get_attribute("#microphone", "aria-pressed") == "true"
        visited.page.click("#microphone")
        visited.shows("#frames-note", "Done:")
        assert visited.page.get_attribute("#microphone", "aria-pressed") == "false"


def test_several_digits_are_all_told(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.click(".example >> nth=1")
        visited.shows("#frames-note", "Done: 3 digits")
        assert visited.text("#label") == "3 1 4"


def test_an_example_clicked_twice_plays_once(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        streams: list[str] = []
        visited.page.on("websocket", lambda socket: streams.append(socket.url))
        visited.page.eval_on_selector(".example", TWICE)
        visited.shows("#frames-note", "Done: “7”")
        assert len(streams) == 1
        visited.page.locator('#posteriorgram[data-frames="78"]').wait_for(
            timeout=60_000
        )  # drawn a frame later


def test_a_microphone_clicked_twice_listens_once(listening_browser: Any, server: Any, visit: Open) -> None:
    with visit(listening_browser, server.url) as visited:
        visited.page.evaluate(KEEP_MEDIA)
        visited.page.eval_on_selector("#microphone", TWICE)
        visited.page.locator("#microphone[aria-pressed=true]").wait_for(timeout=60_000)
        visited.page.wait_for_function(f"() => window.media.length === 2 && ({LIVE_TRACKS})() === 1")


def test_a_microphone_that_goes_away_is_told(listening_browser: Any, server: Any, visit: Open) -> None:
    with visit(listening_browser, server.url) as visited:
        visited.page.evaluate(KEEP_MEDIA)
        visited.page.click("#microphone")
        visited.shows("#label", "…")
        visited.page.locator("#microphone[aria-pressed=true]").wait_for(timeout=60_000)
        visited.page.evaluate("() => window.media[0].getTracks()[0].dispatchEvent(new Event('ended'))")
        visited.shows("#frames-problem", "The microphone went away.")
        visited.shows("#frames-note", "Done:")
        assert visited.page.get_attribute("#microphone", "aria-pressed") == "false"


def test_a_microphone_is_let_go_when_the_server_is_away(
    listening_browser: Any, server: Any, visit: Open
) -> None:
    with between(server.address) as proxy, visit(listening_browser, proxy.url, quiet=False) as visited:
        visited.page.evaluate(KEEP_MEDIA)
        proxy.cut()
        visited.page.click("#microphone")
        visited.shows("#frames-problem", "The server does not answer.")
        assert visited.page.evaluate(LIVE_TRACKS) == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "NotAllowedError",
            "The microphone was refused. Allow it in the browser's address bar, or play an example.",
        ),
        ("NotFoundError", "This machine has no microphone. Upload a recording, or play an example."),
    ],
)
def test_a_refused_microphone_is_told(browser: Any, server: Any, visit: Open, name: str, words: str) -> None:
    """Which of them a browser without a microphone says differs from machine to machine."""
    with visit(browser, server.url) as visited:
        visited.page.evaluate(
            "(name) => (navigator.mediaDevices.getUserMedia = () => Promise.reject({ name }))",
            name,
        )
        visited.page.click("#microphone")
        visited.shows("#frames-problem", words)
        assert visited.text("#frames-problem") == words
        assert visited.text("#frames-note") == "English digits, zero to nine"


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
        visited.shows("#frames-note", "Done:")


@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_a_lost_connection_loses_nothing(browser: Any, server: Any, visit: Open, fault: str) -> None:
    """The network fails in the middle of a recording, loudly or not: what is heard is what is heard without
    that.
    """
    with visit(browser, server.url) as visited:
        visited.page.set_input_files("#recording", DIGITS)
        visited.shows("#frames-note", "Done:")
        expected = visited.page.locator("#segments li").all_inner_texts()
    with between(server.address) as proxy, visit(browser, proxy.url, quiet=False) as visited:
        visited.page.set_input_files("#recording", DIGITS)
        visited.page.locator("#segments li").first.wait_for(timeout=60_000)
        getattr(proxy, fault)()
        visited.shows("#frames-problem", "The connection is lost.")
        proxy.mend()
        visited.shows("#frames-note", "Done:")
        assert not visited.page.is_visible("#frames-problem")
        assert visited.page.locator("#segments li").all_inner_texts() == expected


def test_a_network_that_is_back_is_used_at_once(browser: Any, server: Any, visit: Open) -> None:
    """The page's clock stands still, so that no wait of its own can end: it has the browser's word alone."""
    with between(server.address) as proxy, visit(browser, proxy.url, quiet=False) as visited:
        clock, context = visited.page.clock, visited.page.context
        clock.install(time=0)
        clock.pause_at(3600)
        visited.page.set_input_files("#recording", DIGITS)
        visited.shows("#frames-note", "Listening")
        clock.run_for(3000)
        visited.page.locator("#segments li").first.wait_for(timeout=60_000)
        proxy.cut()
        visited.shows("#frames-problem", "The connection is lost.")
        context.set_offline(True)
        proxy.mend()
        context.set_offline(False)
        visited.shows("#frames-note", "Connected again")
        assert not visited.page.is_visible("#frames-problem")
        clock.resume()
        visited.shows("#frames-note", "Done:")


def test_audio_that_waited_is_sent_in_pieces(browser: Any, serve: Any, visit: Open) -> None:
    """No message is longer than the server takes."""
    with serve("--max-chunk-bytes", 1024) as server, visit(browser, server.url) as visited:
        visited.page.click(".example >> nth=0")
        visited.shows("#frames-note", "Done: “7”")


def test_a_stream_that_is_too_long_is_concluded(browser: Any, serve: Any, visit: Open) -> None:
    with serve("--max-stream-seconds", 1) as server, visit(browser, server.url) as visited:
        visited.page.click(".example >> nth=1")
        visited.shows("#frames-problem", "The server takes at most 1 seconds of audio")
        visited.shows("#frames-note", "Done:")


def test_a_full_server_is_asked_again(browser: Any, serve: Any, visit: Open) -> None:
    with (
        serve("--max-streams", 1) as server,
        visit(browser, server.url) as first,
        visit(browser, server.url) as second,
    ):
        first.page.set_input_files("#recording", DIGITS)
        first.page.locator("#segments li").first.wait_for(timeout=60_000)
        second.page.click(".example >> nth=0")
        second.shows("#frames-problem", "Trying again in")
        first.page.click("#stop")
        second.shows("#frames-note", "Done: “7”")


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
            visited.shows("#frames-note", "Done:")


def test_a_server_that_stays_away_is_told(browser: Any, serve: Any, visit: Open) -> None:
    with serve() as server, visit(browser, server.url, quiet=False) as visited:
        server.process.kill()
        server.process.wait()
        visited.page.click(".example >> nth=0")
        visited.shows("#frames-problem", "The server does not answer.")
        visited.page.set_input_files("#image", ROOT / "docs" / "images" / "seven.jpg")
        visited.shows("#digits-problem", "The server does not answer.")


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_everybody_can_use_it(browser: Any, server: Any, visit: Open, options: dict[str, Any]) -> None:
    """axe-core finds nothing, before and after there is something to see."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core is not installed: make setup"
    )
    with visit(browser, server.url, bypass_csp=True, **options) as visited:
        assert axe.Axe().run(visited.page).generate_report().startswith("Found 0 ")
        visited.page.click(".example >> nth=0")
        visited.page.click("summary")
        visited.shows("#frames-note", "Done:")
        found = axe.Axe().run(visited.page)
        assert found.generate_report().startswith("Found 0 "), found.generate_report()
