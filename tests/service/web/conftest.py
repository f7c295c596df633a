"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[3]
RECORDING = ROOT / "docs" / "audio" / "seven.wav"
_FLAGS = [
    "--no-sandbox",  # as root, in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="module")  # Playwright has a running event loop, which other tests must not meet
def launch() -> Iterator[Callable[..., Any]]:
    """Start a browser with more flags."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make setup")
    with playwright.sync_playwright() as running:
        yield lambda *flags: running.chromium.launch(executable_path=chromium, args=[*_FLAGS, *flags])


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
        page.goto(url)
        yield visited
        if quiet:
            assert visited.console == []
        assert visited.hosts == {urlsplit(url).netloc}
        context.close()

    return opened


def _size(response: Any) -> int:
    return int(response.headers.get("content-length", 0))


# The strokes of each digit, as points of a unit square.
STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "0": [
        [
            (0.5, 0.15),
            (0.34, 0.25),
            (0.29, 0.5),
            (0.34, 0.75),
            (0.5, 0.85),
            (0.66, 0.75),
            (0.71, 0.5),
            (0.66, 0.25),
            (0.5, 0.15),
        ]
    ],
    "1": [[(0.52, 0.15), (0.5, 0.85)]],
    "2": [
        [
            (0.3, 0.3),
            (0.38, 0.18),
            (0.55, 0.16),
            (0.68, 0.27),
            (0.64, 0.45),
            (0.45, 0.65),
            (0.28, 0.83),
            (0.5, 0.8),
            (0.74, 0.82),
        ]
    ],
    "3": [
        [
            (0.3, 0.2),
            (0.5, 0.15),
            (0.66, 0.24),
            (0.62, 0.4),
            (0.45, 0.48),
            (0.64, 0.55),
            (0.69, 0.7),
            (0.55, 0.84),
            (0.3, 0.8),
        ]
    ],
    "4": [[(0.35, 0.16), (0.3, 0.5), (0.7, 0.5)], [(0.66, 0.2), (0.62, 0.85)]],
    "5": [
        [
            (0.68, 0.17),
            (0.38, 0.17),
            (0.35, 0.45),
            (0.55, 0.42),
            (0.68, 0.55),
            (0.65, 0.75),
            (0.48, 0.85),
            (0.3, 0.78),
        ]
    ],
    "6": [
        [
            (0.6, 0.14),
            (0.42, 0.32),
            (0.33, 0.55),
            (0.36, 0.78),
            (0.52, 0.86),
            (0.66, 0.74),
            (0.62, 0.58),
            (0.48, 0.54),
            (0.36, 0.65),
        ]
    ],
    "7": [[(0.3, 0.22), (0.7, 0.22), (0.55, 0.5), (0.45, 0.85)]],
    "8": [
        [
            (0.62, 0.25),
            (0.5, 0.15),
            (0.37, 0.25),
            (0.42, 0.42),
            (0.6, 0.58),
            (0.65, 0.75),
            (0.5, 0.86),
            (0.36, 0.75),
            (0.42, 0.58),
            (0.6, 0.42),
            (0.62, 0.25),
        ]
    ],
    "9": [
        [
            (0.65, 0.3),
            (0.52, 0.17),
            (0.36, 0.25),
            (0.36, 0.42),
            (0.5, 0.5),
            (0.64, 0.4),
            (0.65, 0.28),
            (0.63, 0.55),
            (0.55, 0.86),
        ]
    ],
}


def draw(page: Any, digit: str) -> None:
    """Draw a digit with the pen."""
    box = page.locator("#paper").bounding_box()

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]

    for first, *rest in STROKES[digit]:
        page.mouse.move(*place(first))
        page.mouse.down()
        for point in rest:
            page.mouse.move(*place(point), steps=4)
        page.mouse.up()
