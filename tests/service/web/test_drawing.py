"""Drawing with a pen and with fingers, and the line that scans what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.browser import STROKES, draw

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}
SIDE = 28
NEXT = [255, 190, 60]  # the colour of the pixel that is read next

KEEP_KINDS = """() => {
  window.kinds = new Set();
  const keep = ({ pointerType }) => window.kinds.add(pointerType);
  document.getElementById("paper").addEventListener("pointermove", keep);
}"""
SEEN = """() => {
  const canvas = document.getElementById("seen");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({ length: data.length / 4 }, (_, index) => [...data.subarray(4 * index, 4 * index + 3)]);
}"""

Open = Callable[..., Any]
Point = dict[str, float]


def places(page: Any, digit: str) -> list[list[Point]]:
    """Where a hand goes that draws a digit's strokes, closely."""
    box = page.locator("#paper").bounding_box()
    strokes = []
    for stroke in STROKES[digit]:
        between = [
            (x + (next_x - x) * part / 4, y + (next_y - y) * part / 4)
            for (x, y), (next_x, next_y) in pairwise(stroke)
            for part in range(4)
        ]
        strokes.append(
            [
                {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
                for x, y in [*between, stroke[-1]]
            ]
        )
    return strokes


def test_a_pen_draws_too(browser: Any, server: Any, visit: Open) -> None:
    with visit(browser, server.url) as visited:
        visited.page.evaluate(KEEP_KINDS)
        tablet = visited.page.context.new_cdp_session(visited.page)

        def pen(kind: str, place: Point, **more: Any) -> None:
            tablet.send("Input.dispatchMouseEvent", {"type": kind, "pointerType": "pen", **place, **more})

        for first, *rest in places(visited.page, "4"):
            pen("mousePressed", first, button="left", buttons=1, clickCount=1, force=0.4)
            for place in rest:
                pen("mouseMoved", place, button="left", buttons=1, force=0.6, tiltX=20)
            pen("mouseReleased", rest[-1], button="left", clickCount=1)
        visited.shows("#decided", "It made up its mind")
        assert visited.text("#digit") == "4"
        assert visited.page.evaluate("() => [...window.kinds]") == ["pen"]


def test_a_finger_draws_too(browser: Any, server: Any, visit: Open) -> None:
    """One of them: what another does meanwhile is no stroke."""
    with visit(browser, server.url, **PHONE) as visited:
        visited.page.evaluate(KEEP_KINDS)
        screen = visited.page.context.new_cdp_session(visited.page)
        corner = {"id": 1, **places(visited.page, "1")[0][0]}
        corner["x"] -= 50

        def fingers(kind: str, *points: Point) -> None:
            screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

        for first, *rest in places(visited.page, "4"):
            fingers("touchStart", {"id": 0, **first})
            fingers("touchStart", {"id": 0, **first}, corner)
            for place in rest:
                corner["y"] += 2
                fingers("touchMove", {"id": 0, **place}, corner)
            fingers("touchEnd", corner)
            fingers("touchEnd")
        visited.shows("#decided", "It made up its mind")
        assert visited.text("#digit") == "4"
        assert visited.page.evaluate("() => [...window.kinds]") == ["touch"]
        assert visited.page.evaluate("() => scrollY") == 0


def test_a_line_scans_what_is_read(browser: Any, server: Any, visit: Open) -> None:
    """It goes on pixel by pixel, row by row; what is read is bright, and what is not yet is dim."""
    with visit(browser, server.url, quiet=False) as visited:  # the browser tells of the look at the canvas
        visited.page.clock.install(time=0)
        visited.page.clock.pause_at(3600)
        with visited.page.expect_response("**/v1/digits*") as asked:
            draw(visited.page, "3")
        visited.shows("#digit", "3")
        pixels = asked.value.json()["trace"]["pixels"]
        visited.page.clock.run_for(20)
        places: list[int] = []
        while (picture := visited.page.evaluate(SEEN)).count(NEXT):
            (place,) = (index for index, colours in enumerate(picture) if colours == NEXT)
            assert place > max(places, default=-1)
            places.append(place)
            for index, (red, green, blue) in enumerate(picture):
                if index // SIDE != place // SIDE:
                    light = 255 * pixels[index] * (1 if index < place else 0.35)
                    assert red == green == blue
                    assert abs(red - light) <= 1
                elif index != place:
                    assert blue == 255
            visited.page.clock.run_for(30)
        assert all(abs(red - 255 * light) <= 1 for (red, *_), light in zip(picture, pixels, strict=True))
        visited.shows("#decided", "It made up its mind")
    assert {place // SIDE for place in places} == set(range(SIDE))
