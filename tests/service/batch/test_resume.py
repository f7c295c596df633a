"""What is left by runs that were ended, and going on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.batch.conftest import Batch, Start, rows


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def children(pid: int) -> list[int]:
    """A process's children, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def uninterrupted(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of a run that nothing happens to."""
    out = tmp_path_factory.mktemp("whole") / "out"
    command = [*_COMMAND, digits_folder, "--out", out]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return rows(out)


_COMMAND = [sys.executable, "-m", "service", "batch"]


def test_kill_9(
    start: Start, batch: Batch, digits_folder: Path, tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    out = tmp_path / "out"
    flags = [digits_folder, "--out", out, "--part-rows", 32]
    for least in (2, 6):
        with start(*flags) as process:
            wait_for(lambda least=least: len(parts(out)) >= least)
            others = children(process.pid)
            assert len(others) >= 2
            process.kill()
            process.communicate(timeout=60)
        wait_for(lambda others=others: not any(map(runs, others)))  # decoders do not outlive it
        written = rows(out)
        assert 32 * least <= len(written) < 500
        assert written == uninterrupted[: len(written)]
    (out / ".part-000099.parquet.tmp").write_bytes(b"PAR1 and no more")

    ended = batch(*flags)
    assert ended.status == 0
    assert f"{len(written)} by earlier runs" in ended.told
    assert rows(out) == uninterrupted
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_write_what_is_done(
    start: Start,
    batch: Batch,
    digits_folder: Path,
    tmp_path: Path,
    uninterrupted: list[dict[str, Any]],
    number: signal.Signals,
) -> None:
    out = tmp_path / "out"
    flags = [digits_folder, "--out", out]
    with start(*flags, "--part-rows", 64) as process:
        wait_for(lambda: parts(out))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, told = process.communicate(timeout=15)
    assert process.returncode == 128 + number
    assert "Traceback" not in told
    assert not list(out.glob(".*"))
    assert 64 <= len(rows(out)) < 500

    assert batch(*flags).status == 0
    by_path = {row["path"]: row for row in rows(out)}
    assert len(rows(out)) == 500
    assert by_path == {row["path"]: row for row in uninterrupted}


def test_an_open_standard_input_holds_nothing_up(start: Start, tmp_path: Path) -> None:
    with start("-", "--out", tmp_path / "out") as process:
        wait_for(lambda: (tmp_path / "out" / "_models.json").exists())
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_new_files_alone_are_classified(batch: Batch, tmp_path: Path, digits_folder: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pictures = sorted(digits_folder.glob("0/*.png"))
    for picture in pictures[1::2]:
        (folder / picture.name).symlink_to(picture)
    assert batch(folder, "--out", out).status == 0
    first = parts(out)[0].read_bytes()
    for picture in pictures[::2]:
        (folder / picture.name).symlink_to(picture)
    ended = batch(folder, "--out", out)
    assert "50 of 50 files, 25 by earlier runs, 0 bad, " in ended.told
    assert parts(out)[0].read_bytes() == first
    assert {row["path"] for row in rows(out)} == {picture.name for picture in pictures}
