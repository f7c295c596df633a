"""The page at /, in a real browser, against a real server."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.browser import STROKES, draw

ROOT = Path(__file__).resolve().parents[3]
SEVEN = ROOT / "docs" / "images" / "seven.jpg"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}

KEEP_DRAGS = """() => {
  window.drags = {};
  const keep = ({ type, defaultPrevented }) => (window.drags[type] = defaultPrevented);
  for (const type of ["dragover", "drop"]) addEventListener(type, keep);
}"""
KEEP_SHIFTS = """() => {
  window.shifts = [];
  window.observer = new PerformanceObserver((list) => window.shifts.push(...list.getEntries()));
  window.observer.observe({ type: "layout-shift", buffered: true });
}"""
# A shift is known after the frame that shows it, and told in a task of its own.
SHIFTED = """async () => {
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
  await new Promise((resolve) => setTimeout(resolve));
  window.shifts.push(...window.observer.takeRecords());
  return window.shifts.reduce((sum, { value }) => sum + value, 0);
}"""

Open = Callable[..., Any]


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_is_read(browser: Any, server: Any, visit: Open, digit: str) -> None:
    with visit(browser, server.url) as visited:
        draw(visited.page, digit)
        visited.shows("#decided", "It made up its mind after pixel")
        assert visited.text("#digit") == digit
        assert visited.page.get_attribute("#beliefs", "data-steps") == "784"
        assert re.fullmatch(r"\d+\.\d % sure, in \d+ ms", visited.text("#digit-note"))


def test_an_uploaded_image_is_read(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.set_input_files("#image", SEVEN)
        visited.shows("#digit", "7")


def test_an_image_dropped_on_the_paper_is_read(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        transfer = visited.page.evaluate_handle(
            """(encoded) => {
              const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
              const transfer = new DataTransfer();
              transfer.items.add(new File([bytes], "seven.jpg", { type: "image/jpeg" }));
              return transfer;
            }""",
            base64.b64encode(SEVEN.read_bytes()).decode(),
        )
        visited.page.dispatch_event("#paper", "dragover", {"dataTransfer": transfer})
        visited.page.dispatch_event("#paper", "drop", {"dataTransfer": transfer})
        visited.shows("#digit", "7")


@pytest.mark.parametrize("part", ["#paper", "h1"])
def test_a_dropped_file_does_not_replace_the_page(browser: Any, server: Any, visit: Open, part: str) -> None:
    """What a browser does with it by itself is prevented; one without windows does nothing in any case."""
    with visit(browser, server.url) as visited:
        visited.page.evaluate(KEEP_DRAGS)
        box = visited.page.locator(part).bounding_box()
        place = {"x": box["x"] + 5, "y": box["y"] + 5}
        files = {"items": [], "files": [str(SEVEN)], "dragOperationsMask": 1}
        hand = visited.page.context.new_cdp_session(visited.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            hand.send("Input.dispatchDragEvent", {"type": kind, **place, "data": files})
        visited.page.wait_for_function("() => window.drags.drop !== undefined")
        assert visited.page.evaluate("() => window.drags") == {"dragover": True, "drop": True}
        if part == "#paper":
            visited.shows("#digit", "7")
        else:
            assert visited.text("#digit") == "?"


def test_the_engine_is_shown(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url, quiet=False) as visited:  # the browser reports the status
        visited.shows("#status", "Model digits, version")
        shown = visited.text("#status")
        for part in ("Model frames, version", "accuracy", "Device", "Live streams", "ready"):
            assert part in shown
        visited.page.route("**/v1/status", lambda route: route.fulfill(status=503, body=""))
        visited.shows("#status", "The server answered 503.")


def test_an_answer_that_failed_leaves_nothing_of_the_last(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url, quiet=False) as visited:  # the browser reports the status
        draw(visited.page, "3")
        visited.shows("#decided", "It made up its mind")
        visited.page.route("**/v1/digits*", lambda route: route.fulfill(status=500, body=""))
        draw(visited.page, "1")
        visited.shows("#digits-problem", "The server answered 500.")
        assert visited.text("#digit") == "?"
        assert visited.text("#decided") == "The probability of each digit while it reads"
        assert visited.page.text_content("#digits-json") == ""


@pytest.mark.parametrize("name", ["notes.txt", "empty.png"])
def test_a_file_that_is_no_image(browser: Any, server: Any, visit: Open, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"" if name == "empty.png" else b"not an image")
    with visit(browser, server.url) as visited:
        visited.page.set_input_files("#image", tmp_path / name)
        visited.shows("#digits-problem", f"{name} is no image that this browser can read. Choose a PNG")
        draw(visited.page, "1")  # which goes on working
        visited.shows("#digit", "1")
        assert not visited.page.is_visible("#digits-problem")


def test_a_picture_without_a_digit(browser: Any, server: Any, visit: Open, tmp_path: Path) -> None:
    Image.new("L", (50, 50), 255).save(tmp_path / "white.png")
    with visit(browser, server.url, quiet=False) as visited:  # the browser reports the status 422
        visited.page.set_input_files("#image", tmp_path / "white.png")
        visited.shows("#digits-problem", "no digit was found")


def test_a_server_with_much_to_do_is_told(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url, quiet=False) as visited:  # the browser reports the status
        visited.page.route(
            "**/v1/digits*", lambda route: route.fulfill(status=429, headers={"Retry-After": "3"}, body="")
        )
        draw(visited.page, "1")
        visited.shows("#digits-problem", "more to do than it can. Try again in 3 s.")


def test_a_keys_own_limit_is_told(browser: Any, server: Any, visit: Open) -> None:
    """It is not the server that is busy, and the server says so."""
    problem = {"detail": "the key autumn may make 1 requests a second, and 1 at once"}
    with visit(browser, server.url, quiet=False) as visited:  # the browser reports the status
        visited.page.route(
            "**/v1/digits*",
            lambda route: route.fulfill(status=429, headers={"Retry-After": "1"}, json=problem),
        )
        draw(visited.page, "1")
        visited.shows("#digits-problem", f"{problem['detail']}. Try again in 1 s.")
        assert visited.text("#digits-problem") == f"{problem['detail']}. Try again in 1 s."


def test_no_other_host_and_little_to_load(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.wait_for_load_state("networkidle")
        assert sum(visited.sizes.values()) < 100_000
        assert {url.rpartition("/")[2] for url in visited.sizes} >= {"main.js", "style.css"}


@pytest.mark.parametrize("options", [{}, PHONE])
def test_nothing_moves_when_answers_come(
    browser: Any, server: Any, visit: Open, tmp_path: Path, options: dict[str, Any]
) -> None:
    """No layout shift, nor when something is wrong."""
    (tmp_path / "notes.txt").touch()
    with visit(browser, server.url, **options) as visited:
        visited.page.evaluate(KEEP_SHIFTS)
        draw(visited.page, "7")
        visited.shows("#decided", "It made up its mind")
        visited.page.click(".example >> nth=0")
        visited.shows("#frames-note", "Done:")
        visited.page.set_input_files("#image", tmp_path / "notes.txt")
        visited.shows("#digits-problem", "notes.txt is no image")
        assert visited.page.evaluate(SHIFTED) < 0.001


def test_a_phone_shows_the_answer_above_the_curves(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url, **PHONE) as visited:
        answer, curves = (visited.page.locator(part).bounding_box() for part in ("#digit", "#beliefs"))
        assert answer["y"] + answer["height"] < curves["y"]


def test_files_are_sent_once(server: Any) -> None:
    first = server.client.get("/web/main.js")
    assert first.headers["Content-Type"].startswith("text/javascript")
    again = server.client.get("/web/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "default-src 'none'" in server.client.get("/").headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["/web/../routes.py", "/web/%2e%2e/routes.py", "/web//etc/passwd", "/web/", "/web/x"]
)
def test_nothing_else_is_sent(server: Any, path: str) -> None:
    assert server.client.get(path).status_code == 404
