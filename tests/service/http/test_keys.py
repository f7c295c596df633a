"""API keys: making them, reading their file, and reading it again."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service import keys as command
from service.http.keys import PREFIX, Access, KeyFileError, Keys, add, read

INFER = frozenset({Access.INFER})


class Clock:
    """Seconds that are set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def entry(name: str = "a", key: str = "k", more: str = "") -> str:
    """An entry of a file."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f'[[keys]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = ["infer"]\n{more}\n'


def test_a_key_is_printed_once_and_kept_as_a_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.toml"
    flags = ["--file", str(path), "--scope", "infer", "--scope", "admin", "--rate", "0.5", "--burst", "3"]
    assert command.main(["new", "ada@example.org", *flags]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith(PREFIX)
    assert len(key) - len(PREFIX) == 43  # 256 bits
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    (made,) = read(path)
    assert (made.name, made.scopes, made.rate, made.burst) == ("ada@example.org", {*Access}, 0.5, 3)
    assert Keys(path, Clock()).find(key.encode()) == made
    assert [*tmp_path.iterdir()] == [path]


def test_the_file_stays_its_owners(tmp_path: Path) -> None:
    """A server of another user can still read it when root adds a key."""
    path, link = tmp_path / "keys.toml", tmp_path / "link.toml"
    path.write_text(entry("first"))
    path.chmod(0o640)
    owner = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    link.symlink_to(path)
    add(link, "second", INFER, None, None)
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, *owner)
    assert link.is_symlink()
    assert [key.name for key in read(path)] == ["first", "second"]


def test_the_command_makes_a_key_that_a_server_takes(serve: Any, small_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    words = [sys.executable, "-m", "service", "keys", "new", "ada", "--file", str(path)]
    key = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    with serve("--store", small_store, "--api-keys", path) as server:
        assert server.client.get("/v2", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert server.client.get("/v2", headers={"Authorization": f"Bearer {key}x"}).status_code == 401


def test_keys_are_added_to_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("# ours\n" + entry("first", more="rate = 1e-3"))
    first, second = add(path, "second", INFER, None, None), add(path, "third", INFER, 1e-7, None)
    assert first != second
    assert path.read_text().startswith("# ours\n")
    assert [(key.name, key.rate) for key in read(path)] == [
        ("first", 1e-3),
        ("second", None),
        ("third", 1e-7),
    ]


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("taken", [], "there is a key taken already"),
        ('x"\n', [], "name: String should match pattern"),
        ("ada", ["--rate", "-1"], "rate: Input should be greater than 0"),
        ("ada", ["--rate", "inf"], "rate: Input should be less than or equal to 1000000"),
        ("ada", ["--burst", "0"], "burst: Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_added_changes_nothing(
    tmp_path: Path, name: str, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("taken"))
    assert command.main(["new", name, "--file", str(path), *flags]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert path.read_text() == entry("taken")
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys = []\n", "not TOML: Cannot mutate immutable namespace"),
        ("".join(entry(f"a{n}", f"k{n}") for n in range(1000)), "keys: List should have at most 1000 items"),
    ],
)
def test_a_good_file_is_not_made_a_broken_one(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    there = read(path)
    with pytest.raises(KeyFileError) as caught:
        add(path, "new", INFER, None, None)
    assert str(caught.value).startswith(f"with the new key, {path}: {message}")
    assert read(path) == there


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "missing" / "keys.toml"
    assert command.main(["new", "ada", "--file", str(path)]) == 1
    assert capsys.readouterr().err == f"{path}: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[keys]", "not TOML"),
        ("\xff", "not TOML"),
        ("key = 1", "key: Extra inputs are not permitted"),
        (entry().replace("sha256", "md5"), "keys.0.sha256: Field required"),
        (entry().replace("infer", "root"), "keys.0.scopes.0: Input should be 'infer' or 'admin'"),
        (entry().replace('"infer"', ""), "keys.0.scopes: "),
        (entry() + entry(key="other"), "several keys have the name a"),
        (entry() + entry("b"), "several keys have the sha256 "),
        (entry(more="rate = nan"), "keys.0.rate: Input should be"),
        ("#" * 2**20 + "\n", "it has more than 1048576 bytes"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(KeyFileError) as caught:
        Keys(path, Clock())
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file or directory"):
        Keys(tmp_path / "missing", Clock())


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.toml", Clock()

    def find(key: str) -> str | None:
        clock.now += 1
        found = keys.find(key.encode())
        return found and found.name

    def replace(text: str) -> None:
        new = tmp_path / "new"  # another inode, whatever the file system's clock says
        new.write_text(text)
        new.replace(path)

    path.write_text(entry("a", "first"))
    keys = Keys(path, clock)
    assert (find("first"), find("second"), find("")) == ("a", None, None)
    replace(entry("a", "first") + entry("b", "second"))
    assert (find("first"), find("second")) == ("a", "b")
    with capture_logs() as lines:
        replace("[[")
        assert (find("first"), find("second")) == ("a", "b")
        path.unlink()
        assert (find("first"), find("second")) == ("a", "b")
        replace(entry("b", "second"))
        assert (find("first"), find("second")) == (None, "b")
    told: list[Any] = [(line["log_level"], line["event"]) for line in lines]
    assert told == [("error", "API keys not read")] * 2 + [("info", "API keys read")]


def test_the_file_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.toml", Clock()
    path.write_text(entry("a", "first"))
    keys = Keys(path, clock)
    path.write_text(entry("a", "second") + "\n")
    os.utime(path, (1, 1))
    clock.now = 0.9
    assert keys.find(b"first") is not None
    clock.now = 1.0
    assert keys.find(b"first") is None
