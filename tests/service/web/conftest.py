"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.browser import PROGRAM
from benchmarks.browser import launch as launch_chromium

ROOT = Path(__file__).resolve().parents[3]
RECORDING = ROOT / "docs" / "audio" / "seven.wav"


@pytest.fixture(scope="module")  # Playwright has a running event loop, which other tests must not meet
def launch() -> Iterator[Callable[..., Any]]:
    """Start a browser with more flags."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"there is no {PROGRAM}: apt-get install {PROGRAM}")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make setup")
    with playwright.sync_playwright() as running:
        yield partial(launch_chromium, running)


@pytest.fixture(scope="module")  # Playwright has a running event loop, which other tests must not meet
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    """A browser without a microphone's permission."""
    started = launch()
    yield started
    started.close()


@pytest.fixture(scope="module")  # Playwright has a running event loop, which other tests must not meet
def listening_browser(launch: Callable[..., Any]) -> Iterator[Any]:
    """A browser with a microphone that says seven, once."""
    started = launch(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={RECORDING}%noloop",
    )
    yield started
    started.close()


@dataclass
class Visit:
    """A page that was opened, and what it did besides showing itself."""

    page: Any
    url: str
    console: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.page.inner_text(selector))

    def shows(self, selector: str, text: str) -> None:
        """Wait until an element says this."""
        self.page.locator(selector, has_text=text).wait_for(timeout=60_000)


Open = Callable[..., Any]


@pytest.fixture
def visit() -> Open:
    """Open the page of a server: `with visit(browser, url) as visit`. Afterwards nothing may be on the
    console, and no other host may have been asked for anything.
    """

    @contextmanager
    def opened(browser: Any, url: str, *, quiet: bool = True, **options: Any) -> Iterator[Visit]:
        context = browser.new_context(**options)
        page = context.new_page()
        visited = Visit(page, url)
        page.on("console", lambda message: visited.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: visited.console.append(str(error)))
        page.on("request", lambda request: visited.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: visited.hosts.add(urlsplit(socket.url).netloc))
        page.on("response", lambda response: visited.sizes.update({response.url: _size(response)}))
        try:
            page.goto(url)
            yield visited
            if quiet:
                assert visited.console == []
            assert visited.hosts == {urlsplit(url).netloc}
        finally:
            context.close()

    return opened


def _size(response: Any) -> int:
    return int(response.headers.get("content-length", 0))
