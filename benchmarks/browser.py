"""Debian's Chromium, as Playwright drives it, and how a hand draws digits on the page."""

from __future__ import annotations

import shutil
from typing import Any

PROGRAM = "chromium"
FLAGS = [
    "--no-sandbox",  # as root, in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


def launch(playwright: Any, *flags: str) -> Any:
    """Start the system's Chromium.

    Args:
        playwright: one that runs.
        flags: more of them.

    Raises:
        FileNotFoundError: there is none.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise FileNotFoundError("there is no Chromium: apt-get install chromium")
    return playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags])


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
    """Draw a digit with the pen, on the open page."""
    box = page.locator("#paper").bounding_box()

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]

    for first, *rest in STROKES[digit]:
        page.mouse.move(*place(first))
        page.mouse.down()
        for point in rest:
            page.mouse.move(*place(point), steps=4)
        page.mouse.up()
