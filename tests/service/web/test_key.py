"""The page of a server that wants API keys."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.browser import draw
from service.http.keys import Access, add
from tests.service.web.proxy import between

ROOT = Path(__file__).resolve().parents[3]
SEVEN = ROOT / "docs" / "images" / "seven.jpg"
DIGITS = ROOT / "docs" / "audio" / "digits.wav"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}
MAY_COPY = {"permissions": ["clipboard-read", "clipboard-write"]}

Open = Callable[..., Any]


@dataclass
class Closed:
    """A server that wants a key, one for its models, and one that is not for them."""

    url: str
    key: str
    administrators_key: str
    log_file: Path


@pytest.fixture(scope="module")
def closed(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    secrets = [add(path, f"who-may-{scope}", frozenset({scope}), None, None) for scope in Access]
    with serve("--api-keys", path) as running:
        yield Closed(running.url, *secrets, running.log_file)


def give(visited: Any, key: str) -> None:
    """Type a key into the form."""
    visited.page.get_by_label("Key", exact=True).fill(key)
    visited.page.keyboard.press("Enter")


def test_a_key_is_asked_for_and_used_everywhere(
    browser: Any, closed: Closed, visit: Open, tmp_path: Path
) -> None:
    """Neither the policy nor anything else is in its way, and no address tells it."""
    with visit(browser, closed.url, quiet=False, **MAY_COPY) as visited:  # the browser reports the 401
        addresses: list[str] = []
        visited.page.on("request", lambda request: addresses.append(request.url))
        visited.page.on("websocket", lambda socket: addresses.append(socket.url))
        draw(visited.page, "3")
        visited.shows("#key-reason", "This server wants an API key.")
        give(visited, f" {closed.key} ")
        visited.shows("#decided", "It made up its mind")
        assert visited.text("#digit") == "3"
        visited.page.click("summary")
        visited.page.get_by_role("button", name="Copy command").click()
        visited.page.get_by_role("button", name="Copied").wait_for(timeout=60_000)
        command = visited.page.evaluate("() => navigator.clipboard.readText()")
        visited.page.reload()
        visited.page.click(".example >> nth=0")
        visited.shows("#frames-note", "Done: “7”")
        assert not visited.page.is_visible("#key")
        assert visited.page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
        assert not [line for line in visited.console if "401" not in line]
        assert not [address for address in [*addresses, visited.page.url] if closed.key in address]
    assert closed.key not in command
    log = closed.log_file.read_text()
    assert "/v1/digits" in log
    assert closed.key not in log
    answer = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "MOMENTUM_API_KEY": closed.key},
        check=True,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert json.loads(answer.stdout)["digit"] == 3


def test_a_key_is_asked_for_by_a_stream(browser: Any, closed: Closed, visit: Open) -> None:
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the 401
        visited.page.click(".example >> nth=1")
        visited.shows("#key-reason", "This server wants an API key.")
        assert not visited.page.is_visible("#frames-problem")
        give(visited, closed.key)
        visited.page.locator("#segments li").first.wait_for(timeout=60_000)
        assert visited.text("#frames-note") == "Listening"
        visited.shows("#frames-note", "Done: 3 digits")
        assert visited.text("#label") == "3 1 4"
        assert not visited.page.is_visible("#frames-problem")


def test_a_stream_waits_while_people_look_for_their_key(
    browser: Any, closed: Closed, visit: Open, tmp_path: Path
) -> None:
    """Longer than it waits for a server that is away, and no word is lost."""
    samples, rate = soundfile.read(DIGITS, dtype="int16")
    soundfile.write(tmp_path / "long.wav", np.resize(samples, 80 * rate), rate)
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the 401
        clock = visited.page.clock
        clock.install(time=0)
        clock.pause_at(3600)
        visited.page.set_input_files("#recording", tmp_path / "long.wav")
        visited.shows("#key-reason", "This server wants an API key.")
        clock.run_for(70_000)
        assert not visited.page.is_visible("#frames-problem")
        give(visited, closed.key)
        visited.page.locator("#segments li").nth(20).wait_for(timeout=60_000)
        assert not visited.page.is_visible("#frames-problem")
        clock.resume()
        visited.page.click("#stop")
        visited.shows("#frames-note", "Done:")


def test_a_key_is_asked_for_once(browser: Any, closed: Closed, visit: Open) -> None:
    """By all who miss one at the same time, and who then go on."""
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the 401
        refused: set[str] = set()
        visited.page.on("response", lambda response: response.status == 401 and refused.add(response.url))
        visited.page.eval_on_selector(".example", "(example) => example.click()")
        visited.page.set_input_files("#image", SEVEN)
        visited.shows("#key-reason", "This server wants an API key.")
        while len(refused) < 2:
            visited.page.wait_for_timeout(50)
        give(visited, closed.key)
        visited.shows("#digit", "7")
        visited.shows("#frames-note", "Done: “7”")
        assert not visited.page.is_visible("#key")


def test_a_key_that_is_revoked_is_asked_for_anew(
    browser: Any, serve: Any, visit: Open, tmp_path: Path
) -> None:
    """A connection is lost, and the server does not know the key any more when it can be reached again."""
    path = tmp_path / "keys.toml"
    key = add(path, "autumn", frozenset({Access.INFER}), None, None)
    with (
        serve("--api-keys", path) as server,
        between(server.address) as proxy,
        visit(browser, proxy.url, quiet=False) as visited,  # the browser reports what is refused
    ):
        visited.page.set_input_files("#recording", DIGITS)
        visited.shows("#key-reason", "This server wants an API key.")
        give(visited, key)
        visited.page.locator("#segments li").first.wait_for(timeout=60_000)
        path.unlink()
        other = add(path, "winter", frozenset({Access.INFER}), None, None)
        proxy.cut()
        visited.shows("#frames-problem", "The connection is lost.")
        proxy.mend()
        visited.shows("#key-reason", "The server does not know this API key.")
        give(visited, other)
        visited.shows("#frames-note", "Done: 8 digits")
        assert not visited.page.is_visible("#frames-problem")


def test_a_refused_key_can_be_replaced(browser: Any, closed: Closed, visit: Open) -> None:
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the statuses
        draw(visited.page, "1")
        visited.shows("#key-reason", "This server wants an API key.")
        give(visited, "no key in words")  # which the form itself refuses
        assert visited.page.is_visible("#key")
        give(visited, "momentum-of-another-server")
        visited.shows("#key-reason", "The server does not know this API key.")
        give(visited, closed.administrators_key)
        visited.shows(
            "#key-reason", "the key who-may-admin has the scope admin. Expected: a key with the scope infer."
        )
        give(visited, closed.key)
        visited.shows("#digit", "1")


@pytest.mark.parametrize("way", ["Escape", "Cancel"])
def test_who_has_no_key_is_told(browser: Any, closed: Closed, visit: Open, way: str) -> None:
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the 401
        for begin, problem in (
            (lambda: draw(visited.page, "1"), "#digits-problem"),
            (lambda: visited.page.click(".example >> nth=0"), "#frames-problem"),
        ):
            begin()
            visited.shows("#key-reason", "This server wants an API key.")
            if way == "Escape":
                visited.page.keyboard.press("Escape")
            else:
                visited.page.get_by_role("button", name="Cancel").click()
            visited.shows(problem, "This server wants an API key. Try again, and give it one.")
            assert not visited.page.is_visible("#key")
        assert visited.page.is_disabled("#stop")


@pytest.mark.parametrize("part", ["digits", "stream"])
def test_a_wrong_key_can_be_given_up(browser: Any, closed: Closed, visit: Open, part: str) -> None:
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the 401
        if part == "digits":
            draw(visited.page, "1")
        else:
            visited.page.click(".example >> nth=0")
        visited.shows("#key-reason", "This server wants an API key.")
        give(visited, "momentum-of-another-server")
        visited.shows("#key-reason", "The server does not know this API key.")
        visited.page.get_by_role("button", name="Cancel").click()
        visited.shows("#digits-problem" if part == "digits" else "#frames-problem", "wants an API key.")
        visited.page.wait_for_timeout(1000)  # longer than a stream's first attempts take
        assert not visited.page.is_visible("#key")


def test_a_refusal_is_told_however_long_people_type(browser: Any, closed: Closed, visit: Open) -> None:
    """Longer than a stream waits for an answer: it has come, whatever becomes of the time limit."""
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the statuses
        visited.page.click(".example >> nth=0")
        visited.shows("#key-reason", "This server wants an API key.")
        give(visited, closed.administrators_key)
        visited.shows("#key-reason", "the key who-may-admin has the scope admin.")
        visited.page.wait_for_timeout(1500)
        visited.page.get_by_role("button", name="Cancel").click()
        visited.shows("#frames-problem", "the key who-may-admin has the scope admin.")


def test_who_gave_no_key_is_not_asked_by_what_was_under_way(
    browser: Any, closed: Closed, visit: Open
) -> None:
    with visit(browser, closed.url, quiet=False) as visited:  # the browser reports the 401
        held: list[Any] = []
        visited.page.route("**/v1/digits*", lambda route: held.append(route))
        draw(visited.page, "1")
        while not held:
            visited.page.wait_for_timeout(50)
        visited.page.click(".example >> nth=0")
        visited.shows("#key-reason", "This server wants an API key.")
        visited.page.get_by_role("button", name="Cancel").click()
        visited.shows("#frames-problem", "This server wants an API key.")
        held[0].continue_()
        visited.shows("#digits-problem", "This server wants an API key.")
        assert not visited.page.is_visible("#key")


def test_looking_at_the_engine_asks_for_no_key(browser: Any, server: Any, visit: Open) -> None:
    """Whoever reads the page, or types elsewhere, is not interrupted every other second."""
    with visit(browser, server.url, quiet=False) as visited:  # the browser reports the 401
        visited.page.route("**/v1/status", lambda route: route.fulfill(status=401, body=""))
        visited.shows("#status", "This server wants an API key.")
        with visited.page.expect_response("**/v1/status"):
            pass
        assert not visited.page.is_visible("#key")


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_everybody_can_give_a_key(browser: Any, closed: Closed, visit: Open, options: dict[str, Any]) -> None:
    """axe-core finds nothing, and the keyboard is enough."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core is not installed: make setup"
    )
    with visit(browser, closed.url, bypass_csp=True, quiet=False, **options) as visited:
        visited.page.focus(".example >> nth=0")
        visited.page.keyboard.press("Enter")
        visited.shows("#key-reason", "This server wants an API key.")
        assert visited.page.evaluate("() => document.activeElement.id") == "key-input"
        found = axe.Axe().run(visited.page)
        assert found.generate_report().startswith("Found 0 "), found.generate_report()
        visited.page.keyboard.press("Escape")
        assert visited.page.evaluate("() => document.activeElement.className") == "example"
