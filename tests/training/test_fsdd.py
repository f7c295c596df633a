"""The Free Spoken Digit Dataset: found, checked, split, labelled, and downloaded where it is missing."""

import gzip
import hashlib
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from training.data import DataError, Split, download, fsdd, fsdd_archive, load_speech
from training.data.content import md5_of

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

# --- in miniature: two digits, 12 recordings of each by each of three speakers, and no mirror


def recording(name: str) -> bytes:
    """Half a second of silence, a tone that only this recording has, and silence again."""
    digit, speaker, number = name.removesuffix(".wav").split("_")
    frequency = 300 + 100 * int(digit) + 10 * int(number) + len(speaker)
    samples = np.zeros(4_000, np.float32)
    samples[1_000:3_000] = 0.5 * np.sin(2 * np.pi * frequency * np.arange(2_000) / 8_000)
    file = BytesIO()
    soundfile.write(file, samples, 8_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The recordings by name, which the loader then takes for the published ones."""
    monkeypatch.setattr(fsdd, "DIGITS", ("0", "7"))
    monkeypatch.setattr(fsdd, "COUNT", 12)
    monkeypatch.setattr(fsdd_archive, "MIRRORS", ("http://127.0.0.1:1/archive",))  # nobody listens there
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    contents = {}
    for speaker in ("ann", "bob", "cyd"):
        digest = hashlib.sha256()
        for digit in "07":
            for number in range(12):
                name = f"{digit}_{speaker}_{number}.wav"
                contents[name] = recording(name)
                digest.update(f"{name} {len(contents[name])}\n".encode() + contents[name])
        monkeypatch.setitem(fsdd.SPEAKERS, speaker, digest.hexdigest())
    for speaker in [name for name in fsdd.SPEAKERS if name not in {"ann", "bob", "cyd"}]:
        monkeypatch.delitem(fsdd.SPEAKERS, speaker)
    return contents


def put(contents: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def names(split: Split, root: Path, **options: Any) -> list[str]:
    return [each.name for each in load_speech("fsdd", split, root, options=options).utterances]


@pytest.mark.parametrize("folder", ["fsdd/recordings", "fsdd", "recordings", "."])
def test_found(miniature: dict[str, bytes], tmp_path: Path, folder: str) -> None:
    put(miniature, tmp_path / folder)
    speech = load_speech("fsdd", "validation", tmp_path)
    assert (speech.dataset, speech.split, speech.sample_rate) == ("fsdd", "validation", 8_000)
    assert speech.labels == ("0", "7", "silence")
    assert speech.scored_as == {"0": "0", "7": "7", "silence": "silence"}
    assert speech.silence == "silence"
    assert speech.checksums == dict(fsdd.SPEAKERS)
    assert [each.name for each in speech.utterances] == [
        f"{digit}_{speaker}_{number}"
        for speaker in ("ann", "bob", "cyd")
        for digit in "07"
        for number in range(5, 10)
    ]
    each = speech.utterances[7]
    assert (each.name, each.speaker, each.label) == ("7_ann_7", "ann", "7")
    assert each.samples.dtype == np.float32
    assert np.abs(each.samples).max() == pytest.approx(0.5, abs=1e-3)
    assert [segment.label for segment in each.segments] == ["silence", "7", "silence"]
    # a quarter of a second is put before and after
    assert not each.samples[:2_000].any()
    assert not each.samples[-2_000:].any()
    assert [segment.end for segment in each.segments] == pytest.approx([3_000, 5_000, 8_000], abs=140)
    assert Counter(each.frame_labels(80)) == pytest.approx({"silence": 75, "7": 25}, abs=3)


def test_official_splits(miniature: dict[str, bytes], tmp_path: Path) -> None:
    put(miniature, tmp_path)
    members = {split: names(split, tmp_path) for split in SPLITS}
    assert {name.split("_")[2] for name in members["test"]} == set("01234")
    assert {name.split("_")[2] for name in members["validation"]} == set("56789")
    assert {name.split("_")[2] for name in members["train"]} == {"10", "11"}
    together = [name for split in members.values() for name in split]
    assert sorted(f"{name}.wav" for name in together) == sorted(miniature)


def test_leaving_a_speaker_out(miniature: dict[str, bytes], tmp_path: Path) -> None:
    put(miniature, tmp_path)
    members = {split: names(split, tmp_path, leave_out="bob") for split in SPLITS}
    assert sorted(f"{name}.wav" for name in members["test"]) == sorted(n for n in miniature if "_bob_" in n)
    assert not any("_bob_" in name for name in (*members["train"], *members["validation"]))
    assert {name.split("_")[2] for name in members["validation"]} == set("56789")
    assert {name.split("_")[2] for name in members["train"]} == {*"01234", "10", "11"}
    assert sorted(f"{name}.wav" for split in members.values() for name in split) == sorted(miniature)


def test_speakers_that_are_not_asked_for_may_be_missing(miniature: dict[str, bytes], tmp_path: Path) -> None:
    put({name: content for name, content in miniature.items() if "_cyd_" not in name}, tmp_path)
    assert len(names("train", tmp_path, speakers=["bob", "ann"])) == 8
    assert len(names("test", tmp_path, speakers=["bob", "ann"], leave_out="ann")) == 24
    speech = load_speech("fsdd", "train", tmp_path, options={"speakers": ["bob", "ann"], "leave_out": "bob"})
    assert list(speech.checksums) == ["ann"]


@pytest.mark.usefixtures("miniature")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"speakers": "ann"}, "found speakers 'ann', expected a list of names; known: ann, bob, cyd"),
        ({"speakers": ["ann", "theo"]}, r"found speakers \['ann', 'theo'\]"),
        ({"speakers": [["ann"]]}, r"found speakers \[\['ann'\]\]"),
        ({"speakers": []}, r"found speakers \[\]"),
        ({"speakers": ["ann", "ann"]}, "expected each of them once"),
        ({"leave_out": "theo"}, "found leave_out 'theo', expected one of several speakers: ann, bob, cyd"),
        ({"leave_out": "ann", "speakers": ["bob", "cyd"]}, "expected one of several speakers: bob, cyd"),
        ({"leave_out": "ann", "speakers": ["ann"]}, "found leave_out 'ann'"),
    ],
)
def test_wrong_options(options: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        load_speech("fsdd", "train", tmp_path, options=options)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1] + b"\1",
        lambda content: content[:-2],
        lambda content: content + bytes(2**18),
        lambda _content: b"",
    ],
)
def test_altered_recordings_are_refused_and_kept(
    miniature: dict[str, bytes], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    put(miniature, tmp_path)
    altered = tmp_path / "0_bob_11.wav"
    altered.write_bytes(damage(miniature[altered.name]))
    content = altered.read_bytes()
    with pytest.raises(DataError, match=r"found recordings of bob with SHA-256 .*Replace bob's files"):
        load_speech("fsdd", "test", tmp_path)
    assert altered.read_bytes() == content
    assert len(names("test", tmp_path, speakers=["ann", "cyd"])) == 20


# --- downloads, from a server on the loopback interface


def tar_of(members: dict[str, bytes], *, links: tuple[str, ...] = ()) -> bytes:
    """An uncompressed archive; ``links`` are members that point to /etc/hostname instead of being files."""
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            if path in links:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            member.size = 0 if path in links else len(content)
            tar.addfile(member, BytesIO(content))
    return file.getvalue()


TOP = "free-spoken-digit-dataset-1.0.10"


@pytest.fixture
def archive(miniature: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The published archive in miniature."""
    extras = {f"{TOP}/README.md": b"read me", f"{TOP}/recordings/notes.txt": b"?", f"{TOP}/fsdd.py": b"1"}
    content = tar_of(extras | {f"{TOP}/recordings/{name}": data for name, data in miniature.items()})
    monkeypatch.setattr(fsdd_archive, "ARCHIVE_MD5", md5_of(content))
    return content


@pytest.fixture
def serve(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve the archive; the paths that were asked for so far."""
    requests: list[str] = []
    body = gzip.compress(archive)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(404 if self.path == "/absent" else 200)
            self.send_header("Content-Length", str(0 if self.path == "/absent" else len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.path == "/absent" else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(fsdd_archive, "MIRRORS", (f"{url}/absent", f"{url}/archive"))
    yield requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloaded_once(miniature: dict[str, bytes], serve: list[str], tmp_path: Path) -> None:
    root = tmp_path / "new"
    assert len(names("test", root)) == 30
    assert len(names("train", root)) == 12
    assert serve == ["/absent", "/archive"]
    assert sorted(path.name for path in (root / "fsdd").iterdir()) == [".lock", "recordings"]
    assert {path.name: path.read_bytes() for path in (root / "fsdd" / "recordings").iterdir()} == miniature


def test_only_what_is_missing_is_unpacked(
    miniature: dict[str, bytes], serve: list[str], tmp_path: Path
) -> None:
    put({name: content for name, content in miniature.items() if name[0] == "0"}, tmp_path)
    names("test", tmp_path)
    assert {path.name[0] for path in (tmp_path / "fsdd" / "recordings").iterdir()} == {"7"}
    assert serve == ["/absent", "/archive"]


def test_several_at_once_download_once(serve: list[str], tmp_path: Path) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(len(names("test", tmp_path)))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [30] * 3
    assert serve == ["/absent", "/archive"]


@pytest.mark.usefixtures("serve")
def test_an_archive_put_there_by_hand(archive: bytes, tmp_path: Path, serve: list[str]) -> None:
    (tmp_path / "fsdd").mkdir()
    by_hand = tmp_path / "fsdd" / fsdd_archive.ARCHIVE
    by_hand.write_bytes(archive[:-512])
    with pytest.raises(DataError, match=rf"{by_hand}: found content with MD5 .*expected .*Remove the file"):
        names("test", tmp_path)
    by_hand.write_bytes(gzip.compress(archive))
    assert len(names("test", tmp_path)) == 30
    assert serve == []


def test_offline_says_what_is_missing_and_where_to_put_it(
    miniature: dict[str, bytes], tmp_path: Path
) -> None:
    put(
        {name: data for name, data in miniature.items() if "_ann_" not in name and name != "7_cyd_3.wav"},
        tmp_path,
    )
    with pytest.raises(DataError) as raised:
        load_speech("fsdd", "train", tmp_path)
    message = str(raised.value)
    assert "ann: 24 missing, such as 0_ann_0.wav; " in message
    assert "cyd: 1 missing, such as 7_cyd_3.wav)" in message
    assert "bob" not in message
    assert f"put its folder recordings into {tmp_path / 'fsdd'}" in message
    assert "http://127.0.0.1:1/archive: " in message
    assert "Connection refused" in message
    assert "MOMENTUM_DATA" in message
    assert "option speakers" in message


@pytest.mark.usefixtures("miniature")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match=r"(?s)ann: 24 missing.*Not a directory.*put its folder recordings"):
        load_speech("fsdd", "train", file)


# --- archives that mean harm


def unpack(content: bytes, folder: Path) -> None:
    fsdd_archive.unpack(content, ["0_ann_0.wav"], folder)


@pytest.mark.parametrize(
    "path",
    [
        "../0_ann_0.wav",
        "/0_ann_0.wav",
        f"{TOP}/recordings/../0_ann_0.wav",
        f"{TOP}/../recordings/0_ann_0.wav",
        f"{TOP}/recordings/sub/0_ann_0.wav",
        f"{TOP}/0_ann_0.wav",
        "other/recordings/0_ann_0.wav",
        f"{TOP}/recordings/0_ann_0.wav\n",
        f"{TOP}/recordings/0_ann_1.wav",
    ],
)
def test_nothing_is_unpacked_from_other_paths(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found an archive without 0_ann_0\.wav"):
        unpack(tar_of({path: b"data"}), tmp_path / "in")
    assert [str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*")] == ["in"]


def test_links_and_giants_are_not_unpacked(tmp_path: Path) -> None:
    path = f"{TOP}/recordings/0_ann_0.wav"
    for content in (tar_of({path: b""}, links=(path,)), tar_of({path: bytes(fsdd_archive.MAX_BYTES + 1)})):
        with pytest.raises(DataError, match="found an archive without"):
            unpack(content, tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_archives(tmp_path: Path) -> None:
    content = tar_of({f"{TOP}/recordings/0_ann_0.wav": bytes(5_000)})
    with pytest.raises(DataError, match="found a damaged archive"):
        unpack(b"not a tar file at all", tmp_path)
    with pytest.raises(DataError, match=r"found a damaged archive|found an archive without"):
        unpack(content[:3_000], tmp_path)
    unpack(content, tmp_path)
    assert (tmp_path / "0_ann_0.wav").read_bytes() == bytes(5_000)


# --- the real one

SPEAKERS = ["george", "jackson", "lucas", "nicolas", "yweweler"]  # theo is not among the shared data


@pytest.mark.parametrize(("split", "count"), [("train", 2_000), ("validation", 250), ("test", 250)])
def test_published_recordings(split: Split, count: int, shared_datasets: Path) -> None:
    speech = load_speech("fsdd", split, shared_datasets, options={"speakers": SPEAKERS})
    assert len(speech) == count
    assert Counter(each.label for each in speech.utterances) == dict.fromkeys("0123456789", count // 10)
    assert Counter(each.speaker for each in speech.utterances) == dict.fromkeys(SPEAKERS, count // 5)
    assert speech.labels == (*"0123456789", "silence")
    assert list(speech.checksums) == SPEAKERS


def test_every_published_recording_has_its_digit(shared_datasets: Path) -> None:
    silence = total = 0
    for speaker in SPEAKERS:
        options = {"speakers": SPEAKERS, "leave_out": speaker}
        speech = load_speech("fsdd", "test", shared_datasets, options=options)
        assert len(speech) == 500
        for each in speech.utterances:
            spoken = [segment for segment in each.segments if segment.label != "silence"]
            assert [segment.label for segment in spoken] == [each.label]
            assert spoken[0].end - spoken[0].start >= 0.1 * 8_000
            labels = each.frame_labels(80)
            silence += labels.count("silence")
            total += len(labels)
    assert 0.5 < silence / total < 0.65
