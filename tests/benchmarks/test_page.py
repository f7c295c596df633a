"""The page's benchmark."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.browser import PROGRAM

pytest.importorskip("playwright", reason="Playwright is not installed: make setup")

from benchmarks import page


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"there is no {PROGRAM}: apt-get install {PROGRAM}")
def test_report_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "STROKES", {"4": page.STROKES["4"]})
    monkeypatch.setattr(page, "PICTURES", {"phone": page.PICTURES["page-phone"]})
    assert page.main(["--rounds", "1", "--out", str(tmp_path), "--pictures", str(tmp_path)]) == 0
    assert "| digits right | 1 of 1 |" in (tmp_path / "page.md").read_text()
    with Image.open(tmp_path / "phone.png") as picture:
        assert picture.size == (780, 1688)


def test_times_are_told() -> None:
    text = page.report([10.0] * 9 + [200.0], right=9, kilobytes=41.7, version="1")
    assert "| median | 10 ms |" in text
    assert "| slowest | 200 ms |" in text
    assert "| later than 150 ms | 1 of 10 |" in text
