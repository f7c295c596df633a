"""How soon the page answers, what it weighs, and pictures of it: `python -m benchmarks.page`.

Draws every digit on the page of a real server in Debian's Chromium, and asks the browser when the pen was
lifted and when the answer stood there. Then takes the pictures that the README shows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.browser import STROKES, draw, launch
from benchmarks.machine import processor
from benchmarks.streaming import serve
from exports.store import DEFAULT_STORE

ROUNDS = 5
LIMIT_MS, LIMIT_KB = 150, 100
PATIENCE_MS = 60_000
DESKTOP = {"viewport": {"width": 1100, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}
PICTURES: dict[str, dict[str, Any]] = {
    "page-light": {**DESKTOP, "color_scheme": "light"},
    "page-dark": {**DESKTOP, "color_scheme": "dark"},
    "page-phone": {**PHONE, "color_scheme": "light"},
}

# Milliseconds from the last lift of the pen until the page has shown the answer.
WATCH = """() => {
  const digit = document.getElementById("digit");
  addEventListener("pointerup", () => ([window.lifted, window.answered] = [performance.now(), null]), true);
  new MutationObserver(() => {
    if (digit.textContent !== "?") window.answered ??= performance.now() - window.lifted;
  }).observe(digit, { childList: true, characterData: true, subtree: true });
}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the report and take the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of ten digits (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the report")
    parser.add_argument("--pictures", type=Path, default=Path("docs/images"), help="folder of the pictures")
    options = parser.parse_args(arguments)
    with serve(DEFAULT_STORE, 1) as ((host, port), _), sync_playwright() as playwright:
        url = f"http://{host}:{port}/"
        browser = launch(playwright)
        times, right = answer_times(browser, url, options.rounds)
        kilobytes = weight(browser, url)
        options.pictures.mkdir(parents=True, exist_ok=True)
        for name, device in PICTURES.items():
            picture(browser, url, device, options.pictures / f"{name}.png")
        version = browser.version
        browser.close()
    options.out.mkdir(parents=True, exist_ok=True)
    text = report(times, right, kilobytes, version)
    (options.out / "page.md").write_text(text)
    print(text)
    return 0


def answer_times(browser: Any, url: str, rounds: int) -> tuple[list[float], int]:
    """Milliseconds from pen-up to answer, of each digit in each round, and how many answers were right."""
    times: list[float] = []
    right = 0
    page = browser.new_page(**DESKTOP)
    page.goto(url)
    page.evaluate(WATCH)
    for _ in range(rounds):
        for digit in STROKES:
            page.click("#clear")
            page.evaluate("() => (window.answered = null)")
            draw(page, digit)
            page.wait_for_function("() => window.answered !== null", timeout=PATIENCE_MS)
            page.locator("#decided", has_text="made up its mind").wait_for(timeout=PATIENCE_MS)
            times.append(page.evaluate("() => window.answered"))
            right += page.inner_text("#digit") == digit
    page.close()
    return times, right


def weight(browser: Any, url: str) -> float:
    """Kilobytes that the browser loads to show the page."""
    page = browser.new_page(**DESKTOP)
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", 0))))
    page.goto(url, wait_until="networkidle")
    page.close()
    return sum(sizes) / 1000


def picture(browser: Any, url: str, device: dict[str, Any], path: Path) -> None:
    """The page after a digit was drawn and a recording was played."""
    page = browser.new_page(**device)
    page.goto(url)
    draw(page, "3")
    page.locator("#decided", has_text="made up its mind").wait_for(timeout=PATIENCE_MS)
    page.get_by_role("button", name="three one four").click()
    page.locator("#frames-note", has_text="Done:").wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(1500)  # for the engine's strip, once a second
    page.mouse.move(0, 0)
    page.evaluate("() => scrollTo(0, 0)")
    page.screenshot(path=path, full_page=not device.get("has_touch"))  # on a phone, what is seen at once
    page.close()


def report(times: Sequence[float], right: int, kilobytes: float, version: str) -> str:
    """The page's results as Markdown."""
    ranked = sorted(times)
    p95 = ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]
    late = sum(time > LIMIT_MS for time in times)
    lines = [
        "# How soon the page answers",
        "",
        f"Made by `python -m benchmarks.page`. {processor()}, {os.cpu_count()} cores, server and browser",
        f"(Chromium {version}, without a GPU) together. {len(times)} digits are drawn; the time is from the",
        "lift of the pen until the answer stands on the page: the picture is made, sent and read, its digit",
        "shown.",
        "",
        "| | |",
        "| --- | ---: |",
        f"| median | {statistics.median(times):.0f} ms |",
        f"| 95 % within | {p95:.0f} ms |",
        f"| slowest | {ranked[-1]:.0f} ms |",
        f"| later than {LIMIT_MS} ms | {late} of {len(times)} |",
        f"| digits right | {right} of {len(times)} |",
        f"| the whole page weighs (limit {LIMIT_KB} kB) | {kilobytes:.1f} kB |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
