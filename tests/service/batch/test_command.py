"""`python -m service batch` from outside."""

from __future__ import annotations

import csv
import fcntl
import os
import pty
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from exports.card import Card
from service.batch import command, results
from service.batch.results import Results
from service.settings import Settings
from tests.service.batch.conftest import Batch, Start, rows

Artifact = Callable[..., Path]
DOCS = Path(__file__).resolve().parents[3] / "docs"
STORE = Settings().store


def test_accuracy_is_the_cards(batch: Batch, digits_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.parquet"
    ended = batch(digits_folder, "--out", out)
    assert ended.status == 0
    assert "500 of 500 files, 0 bad, " in ended.told
    found = rows(out)
    assert [row["path"] for row in found] == sorted(
        str(path.relative_to(digits_folder)) for path in digits_folder.glob("*/*.png")
    )
    card = Card.read(STORE / "digits" / "1" / "card.json")
    accuracy = next(metric.value for metric in card.metrics if metric.split == "test")
    right = sum(row["label"] == row["path"][-5] for row in found) / len(found)
    assert abs(right - accuracy) < 0.012  # three standard errors of 500 images
    for row in found:
        assert (row["model"], row["version"], row["error"]) == ("digits", "1", None)
        assert row["probability"] == max(row["probabilities"])
        assert card.labels[row["probabilities"].index(row["probability"])] == row["label"]
        assert row["duration"] is row["segments"] is None
    assert not (tmp_path / "results.errors.csv").exists()


def test_images_recordings_and_bad_files(batch: Batch, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    shutil.copy(DOCS / "images" / "seven.jpg", folder / "deep" / "er" / "seven.JPG")
    shutil.copy(DOCS / "images" / "seven.jpg", folder / ".hidden" / "seven.jpg")
    shutil.copy(DOCS / "images" / "seven.jpg", folder / ".seven.jpg")
    shutil.copy(DOCS / "audio" / "seven.wav", folder / "seven.wav")
    (folder / "notes.txt").write_text("seven")
    (folder / "empty.png").touch()
    (folder / "big.png").write_bytes(bytes(10**5))
    (folder / "broken.wav").write_bytes(b"RIFF")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "circle").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    shutil.copy(DOCS / "images" / "seven.jpg", os.fsencode(folder) + b"/\xff.jpg")
    out = folder / "results.parquet"

    ended = batch(folder, "--out", out, MOMENTUM_MAX_BODY_BYTES="90000")
    assert ended.status == 1
    assert ended.told.endswith(f"7 bad files are listed in {folder / 'results.errors.csv'}\n")
    found = {row["path"]: row for row in rows(out)}
    assert [name for name, row in found.items() if row["error"] is None] == [
        "deep/er/seven.JPG",
        "seven.wav",
        "\\udcff.jpg",
    ]
    assert found["deep/er/seven.JPG"]["label"] == found["\\udcff.jpg"]["label"] == "7"
    heard = found["seven.wav"]
    assert (heard["model"], heard["label"], heard["duration"]) == ("frames", "7", 0.784625)
    assert heard["probability"] == pytest.approx(0.936, abs=0.001)
    assert [segment["label"] for segment in heard["segments"]] == ["silence", "7", "silence"]
    assert [segment["end"] for segment in heard["segments"]] == [0.21, 0.59, 0.78]
    assert sum(heard["probabilities"]) == pytest.approx(1, abs=1e-5)
    with (folder / "results.errors.csv").open(newline="") as lines:
        errors = dict(csv.reader(lines))
    assert errors == {"path": "error"} | {
        name: row["error"] for name, row in found.items() if row["error"] is not None
    }
    for name, expected in {
        "notes.txt": "its name says neither",
        "circle": "its name says neither",
        "empty.png": "not an image",
        "big.png": "100000 bytes",
        "broken.wav": "damaged",
        "gone.png": "No such file",
        "pipe.png": "not a regular file",
    }.items():
        assert expected in errors[name]

    again = batch(folder, "--out", out, "--allow-bad")
    assert again.status == 0
    assert "10 of 10 files, 10 by earlier runs, 7 bad, " in again.told
    assert len(rows(out)) == 10


@pytest.mark.parametrize("stdin", [True, False])
def test_lists(batch: Batch, tmp_path: Path, small_store: Path, stdin: bool) -> None:
    shutil.copy(DOCS / "images" / "seven.jpg", tmp_path / "a picture")
    listed = f"a picture\r\n\n{tmp_path / 'a picture'}\na picture\n"
    (tmp_path / "list").write_text(listed)
    if stdin:
        listed = listed.replace("a picture\r\n", f"{tmp_path}/a picture\n").replace("\na picture\n", "\n")
    flags = ["--out", tmp_path / "out", "--model", "digits", "--store", small_store]
    for _ in range(2):
        ended = batch("-" if stdin else tmp_path / "list", *flags, given=listed if stdin else "")
        assert ended.status == 0, ended.told
        found = rows(tmp_path / "out")
        assert len(found) == (2 if stdin else 3)  # as often as they are listed
        assert {row["error"] for row in found} == {None}


def test_other_models_are_refused(
    batch: Batch, tmp_path: Path, write_artifact: Artifact, fragile_graph: bytes
) -> None:
    files, out = DOCS / "images", tmp_path / "out.parquet"
    first, other = tmp_path / "first", tmp_path / "other"
    write_artifact(first)
    assert batch(files, "--out", out, "--store", first, "--part-rows", 1).status == 0
    part = max(out.glob("part-*"))
    part.unlink()

    write_artifact(other, graph=fragile_graph)
    ended = batch(files, "--out", out, "--store", other)
    assert ended.status == 2
    assert "with SHA-256" in ended.told
    assert ended.told.endswith(": put the model back into the store, or give another --out\n")
    assert not part.exists()

    write_artifact(first, version="2")  # results go on with what they were begun with
    assert batch(files, "--out", out, "--store", first).status == 0
    assert {row["version"] for row in rows(out)} == {"1"}


def test_what_a_model_fails_on_is_bad(
    batch: Batch, digits_folder: Path, tmp_path: Path, write_artifact: Artifact, fragile_graph: bytes
) -> None:
    write_artifact(tmp_path / "store", graph=fragile_graph)
    ended = batch(digits_folder / "3", "--out", tmp_path / "out", "--store", tmp_path / "store")
    assert ended.status == 1
    found = rows(tmp_path / "out")
    assert len(found) == 50
    bad = [row for row in found if row["error"] is not None]
    assert 0 < len(bad) < 50
    assert all(row["error"].startswith("the model fails on it: ") for row in bad)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command says when it refuses."""
    monkeypatch.setattr(command.logs, "configure", lambda *_: None)

    def told(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            sys.exit(command.main([*map(str, arguments)]))  # as argparse does by itself
        assert ended.value.code == 2
        return capsys.readouterr().err

    return told


def test_usage(told: Callable[..., str], tmp_path: Path, small_store: Path) -> None:
    picture = DOCS / "images" / "seven.jpg"
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    for arguments, expected in {
        (): "required: input, --out",
        (tmp_path / "nothing", "--out", out): "there is no such folder or file",
        (picture, "--out", out): "give its folder",
        (picture.parent, "--out", picture): "is a file",
        (picture.parent, "--out", other): "holds precious",
        (picture.parent, "--out", out, "--store", small_store, "--model", "letters"): "letters",
        (picture.parent, "--out", out, "--store", tmp_path / "nothing"): "nothing",
        (picture.parent, "--out", out, "--lanes", "0"): "--lanes or MOMENTUM_LANES",
        (picture.parent, "--out", out, "--decoders", "0"): "0 is not a whole number from 1",
    }.items():
        assert expected in told(*arguments)
    assert [path.name for path in other.iterdir()] == ["precious"]


def test_results_in_use_and_damaged(
    batch: Batch, told: Callable[..., str], tmp_path: Path, small_store: Path
) -> None:
    out = tmp_path / "out"
    flags = [DOCS / "images", "--out", out, "--store", small_store]
    assert batch(*flags).status == 0
    with Results(out):
        assert "another process writes to" in told(*flags)
    (out / "part-000000.parquet").write_bytes(b"PAR1")
    assert "remove it, and its files are classified again" in told(*flags)


def test_it_can_be_locked_on_nfs(
    batch: Batch, tmp_path: Path, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `flock` locks a range of the file for the process, as `lockf` does everywhere."""
    monkeypatch.setattr(results.fcntl, "flock", fcntl.lockf)
    out = tmp_path / "out"
    with Results(out):
        code = "from service.batch import results; results.fcntl.flock = results.fcntl.lockf; "
        code += f"results.Results(results.Path({str(out)!r}))"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "ResultsError: another process writes to" in other.stderr
    assert batch(DOCS / "images", "--out", out, "--store", small_store).status == 0


def hang_up(start: Start, names: list[str], largest: int, *flags: object) -> tuple[int, str]:
    """Give names on a terminal that goes away: its lines can be read, and then there is an error.

    Args:
        start: the command.
        names: of files.
        largest: bytes of a file that it may write.
        flags: of the command.

    Returns:
        Its exit status, and what it said.
    """
    ours, theirs = pty.openpty()
    with start("-", *flags, given=ours) as process:
        os.close(ours)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest, largest))
        with os.fdopen(theirs, "w") as terminal:
            terminal.writelines(f"{name}\n" for name in names)
        _, said = process.communicate(timeout=120)
    return process.returncode, said


def test_what_was_classified_before_the_input_failed_is_written(
    start: Start, batch: Batch, digits_folder: Path, tmp_path: Path, small_store: Path
) -> None:
    names = [str(path) for path in sorted(digits_folder.glob("[01]/*.png"))]
    names.append(str(tmp_path / "absent.png"))
    flags = ["--out", tmp_path / "out", "--store", small_store, "--model", "digits"]
    status, said = hang_up(start, names, resource.RLIM_INFINITY, *flags)
    assert status == 1
    assert "Input/output error; what was written stays\n" in said
    assert [row["path"] for row in rows(tmp_path / "out")] == names
    assert "absent.png" in (tmp_path / "out.errors.csv").read_text()

    ended = batch("-", *flags, given="\n".join(names))
    assert ended.status == 1
    assert "101 by earlier runs" in ended.told


def test_why_it_ended_is_told_though_the_results_cannot_be_written_either(
    start: Start, digits_folder: Path, tmp_path: Path, small_store: Path
) -> None:
    names = [str(path) for path in sorted(digits_folder.glob("0/*.png"))]
    status, said = hang_up(start, names, 2000, "--out", tmp_path / "out", "--store", small_store)
    assert status == 1
    (told,) = (line for line in said.splitlines() if line.startswith("python -m service batch: "))
    assert "batch: [Errno 5] Input/output error; what was classified last could not be written" in told
    assert told.endswith("File too large; what was written stays")
    assert not list((tmp_path / "out").glob("part-*"))


def test_without_what_it_needs(
    told: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "_NEEDED", ("pyarrow", "no_such_package"))
    assert told(tmp_path, "--out", tmp_path / "out") == (
        "python -m service batch: needs no_such_package: in the project's folder, pip install -e '.[batch]'\n"
    )


def test_readers_of_parquet_take_it_as_one_table(batch: Batch, digits_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert batch(digits_folder / "0", "--out", out, "--part-rows", 16).status == 0
    assert len(list(out.glob("part-*.parquet"))) == 4
    assert parquet.ParquetDataset(out).read().num_rows == 50
