"""TIMIT's layout and formats, read from a small synthetic corpus and from copies of it that are damaged."""

import hashlib
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from training.data import DataError, Segment, Speech, Split, load_speech, timit
from training.data.corpus import Corpus, find_corpus
from training.data.phn import MAX_MISMATCH, MAX_MISMATCH_AT_END, as_trained, parse_phn
from training.data.phones import CLASSES, DELETED, SCORED_AS, SILENCE, SYMBOLS, TRAINED_AS
from training.data.synthetic_timit import Size, make_synthetic_timit

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PUBLISHED = timit.TIMIT

# --- phones


def test_the_61_symbols() -> None:
    documented = """iy ih eh ey ae aa aw ay ah ao oy ow uh uw ux er ax ix axr ax-h jh ch b d g p t k dx q
        bcl dcl gcl pcl tcl kcl s sh z zh f th v dh m n ng em en eng nx l r w y hh hv el pau epi h#"""
    assert sorted(documented.split()) == sorted(SYMBOLS)
    assert len(SYMBOLS) == 61


def test_48_classes_and_39_scored() -> None:
    assert len(CLASSES) == 48
    assert set(TRAINED_AS) == SYMBOLS - {DELETED}
    assert set(TRAINED_AS.values()) == set(SCORED_AS) == set(CLASSES)
    assert len(set(SCORED_AS.values())) == 39
    assert SILENCE in CLASSES
    assert all(SCORED_AS[scored] == scored for scored in SCORED_AS.values())


def test_groups_of_lee_and_hon() -> None:
    scored = {symbol: SCORED_AS[name] for symbol, name in TRAINED_AS.items()}
    groups = [sorted(symbol for symbol in scored if scored[symbol] == name) for name in set(scored.values())]
    assert sorted(group for group in groups if len(group) > 1) == sorted(
        sorted(group.split())
        for group in (
            "aa ao", "ah ax ax-h", "er axr", "hh hv", "ih ix", "l el", "m em", "n en nx", "ng eng", "sh zh",
            "uw ux", "h# pau epi bcl dcl gcl pcl tcl kcl",
        )
    )  # fmt: skip


# --- .PHN files

SOURCE = Path("SX1.PHN")


def phn(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@st.composite
def transcriptions(draw: st.DrawFn) -> tuple[Segment, ...]:
    count = draw(st.integers(2, 12))
    bounds = [0, *sorted(draw(st.sets(st.integers(1, 60_000), min_size=count, max_size=count)))]
    labels = draw(st.lists(st.sampled_from(sorted(SYMBOLS)), min_size=count - 2, max_size=count - 2))
    return tuple(
        Segment(*span, label) for span, label in zip(pairwise(bounds), ["h#", *labels, "h#"], strict=True)
    )


@given(transcriptions(), st.sampled_from(["\n", "\r\n", " \n", "\n\n"]))
def test_phn_round_trip(phones: tuple[Segment, ...], newline: str) -> None:
    content = "".join(f"{phone.start} {phone.end} {phone.label}{newline}" for phone in phones).encode()
    assert parse_phn(content, phones[-1].end, SOURCE) == phones


@given(transcriptions(), st.data())
def test_phn_with_gaps_and_overlaps(phones: tuple[Segment, ...], data: st.DataObject) -> None:
    """Whatever the ends say, a phone lasts until the next starts."""
    lines = []
    for phone in phones[:-1]:
        low = max(phone.start + 1, phone.end - MAX_MISMATCH)
        lines.append(f"{phone.start} {data.draw(st.integers(low, phone.end + MAX_MISMATCH))} {phone.label}")
    last = phones[-1]
    end = data.draw(st.integers(max(last.start + 1, last.end - 1_000), last.end + 1_000))
    assert parse_phn(phn(*lines, f"{last.start} {end} h#"), last.end, SOURCE) == phones


@given(transcriptions())
def test_as_trained(phones: tuple[Segment, ...]) -> None:
    classes = as_trained(phones)
    assert {phone.label for phone in classes} <= set(CLASSES)
    assert len(classes) == sum(phone.label != DELETED for phone in phones)
    assert [0, *(phone.end for phone in classes)] == [*(phone.start for phone in classes), phones[-1].end]
    for phone in phones:
        if phone.label != DELETED:
            (here,) = (each for each in classes if each.start == phone.start)
            assert here.label == TRAINED_AS[phone.label]


def test_a_glottal_stop_joins_what_precedes_it() -> None:
    phones = (Segment(0, 9, "h#"), Segment(9, 12, "q"), Segment(12, 13, "q"), Segment(13, 20, "axr"))
    assert as_trained(phones) == (Segment(0, 13, "sil"), Segment(13, 20, "er"))


def test_a_little_off_at_the_ends() -> None:
    expected = (Segment(0, 100, "h#"), Segment(100, 200, "iy"), Segment(200, 20_000, "h#"))
    content = phn("7 100 h#", "100 200 iy", "200 19923 h#")
    assert parse_phn(content, 20_000, SOURCE) == expected


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "found 0 phones: , expected a first and a last phone h#"),
        (["0 20000 h#"], "found 1 phones: h#"),
        (["0 100 iy", "100 20000 h#"], "found 2 phones: iy h#"),
        (["0 9 h#", "9 99 iy", "99 200 s", "200 20000 n"], r"found 4 phones: h# \.\.\. n"),
        (["0 100 h#", "100 200 iy 3", "200 20000 h#"], "line 2: found '100 200 iy 3', expected two"),
        (["0 100 h#", "100 200", "200 20000 h#"], "line 2: found '100 200'"),
        (["-5 100 h#", "100 20000 h#"], "line 1: found '-5 100 h#'"),
        (["0 1e2 h#", "100 20000 h#"], "line 1: found '0 1e2 h#'"),
        (["0 \u0661\u0660 h#", "100 20000 h#"], "line 1: found"),
        (["0 9999999999 h#", "100 20000 h#"], "line 1: found '0 9999999999 h#'"),
        (["0 100 h#", "100 200 IY", "200 20000 h#"], "line 2: found phone 'IY', expected one of TIMIT's 61"),
        (["0 100 h#", "100 200 sil", "200 20000 h#"], "line 2: found phone 'sil'"),
        (["0 100 h#", "100 100 iy", "100 20000 h#"], "line 2: found a phone from 100 to 100, expected start"),
        (["0 100 h#", "200 100 iy", "200 20000 h#"], "line 2: found a phone from 200 to 100"),
        (["2000 3000 h#", "3000 20000 h#"], "found a first phone at sample 2,000, expected it at 0"),
        (["0 100 h#", "100 200 iy", "90 20000 h#"], "found a phone at sample 90 after one at 100"),
        (["0 100 h#", "2000 3000 iy", "3000 20000 h#"], "ends at sample 100 before one that starts at 2,000"),
        (["0 9000 h#", "2000 3000 iy", "3000 20000 h#"], "ends at sample 9,000 before one that starts"),
        (["0 100 h#", "100 11000 h#"], "from sample 100 to 11,000 in a recording of 20,000"),
        (["0 100 h#", "100 29000 h#"], "from sample 100 to 29,000 in a recording of 20,000"),
        (["0 20000 h#", "20000 20100 h#"], "from sample 20,000 to 20,100 in a recording of 20,000"),
    ],
)  # fmt: skip
def test_malformed_phn(lines: list[str], complaint: str) -> None:
    with pytest.raises(DataError, match=rf"^SX1\.PHN.*{complaint}"):
        parse_phn(phn(*lines), 20_000, SOURCE)


@given(st.binary(max_size=80), st.integers(1, 10**6))
def test_no_content_gets_past_the_checks(content: bytes, length: int) -> None:
    try:
        phones = parse_phn(content, length, SOURCE)
    except DataError:
        return
    assert phones[0].start == 0
    assert phones[-1].end == length


def test_tolerances_are_those_documented() -> None:
    assert (MAX_MISMATCH, MAX_MISMATCH_AT_END) == (1_600, 8_000)


# --- the corpus

SIZE = Size(train=3, validation=2, test=2)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus like TIMIT's with 3 + 2 + 2 speakers: the folder with TRAIN and TEST. Not to be changed."""
    folder = make_synthetic_timit(tmp_path_factory.mktemp("small"), SIZE)
    (folder / timit.SYNTHETIC_MARKER).unlink()
    return folder


@pytest.fixture(autouse=True)
def _small_timit(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(
        dataset="timit",
        train={"DR1": 1, "DR2": 1, "DR3": 1, "DR4": 0},
        validation=timit.DEVELOPMENT[:2],
        test=timit.CORE_TEST[:2],
        remedy=timit.TIMIT.remedy,
    )
    monkeypatch.setattr(timit, "TIMIT", corpus)


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A copy to damage: the data directory."""
    shutil.copytree(small, tmp_path / "timit")
    return tmp_path


def same(first: Speech, second: Speech) -> bool:
    return all(
        (a.name, a.speaker, a.segments) == (b.name, b.speaker, b.segments)
        and np.array_equal(a.samples, b.samples)
        for a, b in zip(first.utterances, second.utterances, strict=True)
    )


def test_splits(small: Path) -> None:
    splits = {split: load_speech("timit", split, small) for split in SPLITS}
    assert {split: len(speech) for split, speech in splits.items()} == {
        "train": 24,
        "validation": 16,
        "test": 16,
    }
    for split, speech in splits.items():
        assert (speech.dataset, speech.split, speech.sample_rate) == ("timit", split, 16_000)
        assert (speech.labels, speech.silence, speech.scored_as) == (tuple(CLASSES), "sil", SCORED_AS)
        assert list(speech.checksums) == [split]
        names = [each.name for each in speech.utterances]
        assert names == sorted(set(names))
        assert not any("/SA" in name for name in names)
    assert {each.speaker for each in splits["validation"].utterances} == {"FAKS0", "FDAC1"}
    assert {each.speaker for each in splits["test"].utterances} == {"MDAB0", "MWBT0"}
    each = splits["train"].utterances[0]
    assert each.name.startswith(f"TRAIN/DR1/{each.speaker}/S")
    assert each.label is None
    assert each.samples.dtype == np.float32
    assert each.segments[0].label == each.segments[-1].label == "sil"
    labels = each.frame_labels(160)
    assert len(labels) == len(each.samples) // 160
    assert labels[0] == "sil"


def test_the_checksum_covers_every_file_of_the_split(small: Path) -> None:
    speech = load_speech("timit", "test", small)
    digest = hashlib.sha256()
    for each in speech.utterances:
        wav, transcription = ((small / f"{each.name}{suffix}").read_bytes() for suffix in (".WAV", ".PHN"))
        digest.update(f"{each.name} {len(wav)} {len(transcription)}\n".encode() + wav + transcription)
    assert speech.checksums == {"test": digest.hexdigest()}


def test_at_8_khz(small: Path) -> None:
    whole, half = (load_speech("timit", "test", small, sample_rate=rate) for rate in (16_000, 8_000))
    assert half.sample_rate == 8_000
    agreeing = total = 0
    for one, other in zip(whole.utterances, half.utterances, strict=True):
        assert abs(len(other.samples) - len(one.samples) / 2) <= 1
        labels = list(zip(one.frame_labels(160), other.frame_labels(80), strict=False))
        agreeing += sum(a == b for a, b in labels)
        total += len(labels)
    assert agreeing / total > 0.99


@pytest.mark.parametrize("place", [".", "timit", "TIMIT", "timit/TIMIT", "LDC93S1/timit/TIMIT", "timit/data"])
def test_places(small: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(small, tmp_path / place, dirs_exist_ok=True)
    assert same(load_speech("timit", "test", tmp_path), load_speech("timit", "test", small))


def test_other_folders_named_test_do_not_hide_it(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "timit")
    (tmp_path / "test").mkdir()
    assert find_corpus(tmp_path, timit.FOLDERS) == tmp_path / "timit"


def test_lower_case_names(small: Path, tmp_path: Path) -> None:
    for path in small.rglob("*.*"):
        target = tmp_path / "timit" / str(path.relative_to(small)).lower()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for split in SPLITS:
        lower, upper = load_speech("timit", split, tmp_path), load_speech("timit", split, small)
        assert same(lower, upper)
        assert lower.checksums == upper.checksums


def test_riff_instead_of_sphere(small: Path, copy: Path) -> None:
    for path in (copy / "timit").rglob("*.WAV"):
        samples, sample_rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples, sample_rate, format="WAV", subtype="PCM_16")
        assert path.read_bytes().startswith(b"RIFF")
    assert same(load_speech("timit", "train", copy), load_speech("timit", "train", small))


def test_other_files_do_not_matter(small: Path, copy: Path) -> None:
    speaker = next((copy / "timit" / "TRAIN" / "DR1").iterdir())
    (speaker / "SX1.WAV.wav").write_bytes(b"converted by someone")
    (speaker / "SA1.WAV").unlink()
    (copy / "timit" / "TRAIN" / "DR1" / "lists").mkdir()
    (copy / "timit" / "TRAIN" / "notes").mkdir()
    assert same(load_speech("timit", "train", copy), load_speech("timit", "train", small))


def test_absent(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "no such folder"):
        with pytest.raises(DataError) as raised:
            load_speech("timit", "train", root)
        message = str(raised.value)
        assert f"TIMIT was looked for in {root} and {root / 'timit'} and is not there" in message
        assert "LDC93S1" in message
        assert "cannot be downloaded" in message
        assert "MOMENTUM_DATA" in message
        assert "synthetic-timit" in message


def test_a_synthetic_corpus_is_not_taken_for_timit(copy: Path) -> None:
    (copy / "timit" / timit.SYNTHETIC_MARKER).write_text("{}")
    with pytest.raises(DataError, match="found a synthetic corpus, expected TIMIT"):
        load_speech("timit", "test", copy)


def remove_training_speaker(folder: Path) -> None:
    shutil.rmtree(next((folder / "TRAIN" / "DR2").iterdir()))


def add_training_speaker(folder: Path) -> None:
    shutil.copytree(next((folder / "TRAIN" / "DR3").iterdir()), folder / "TRAIN" / "DR4" / "MXXX0")


def remove_part(part: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / part)


def remove_files(pattern: str, count: int) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for path in sorted(folder.glob(pattern))[:count]:
            path.unlink()

    return remove


@pytest.mark.parametrize(
    ("damage", "split", "complaint"),
    [
        (remove_training_speaker, "train", r"TRAIN/DR2: found 0 speakers, expected 1\n"),
        (add_training_speaker, "train", r"TRAIN/DR4: found 1 speakers, expected 0\n"),
        (remove_part("TRAIN"), "train", r"DR1: found 0 speakers, expected 1\n.*DR2: found 0"),
        (remove_part("TEST"), "test", "2 missing in TEST, of 2 speakers: MDAB0, MWBT0"),
        (
            remove_files("TEST/*/FAKS0/SX*.WAV", 1),
            "validation",
            "1 fault.*: TEST/DR1/FAKS0/SX61 has only its .PHN",
        ),
        (remove_files("TEST/*/FAKS0/SX*.PHN", 1), "validation", "TEST/DR1/FAKS0/SX61 has only its .WAV"),
        (
            remove_files("TEST/*/FAKS0/SX61.*", 3),
            "validation",
            "FAKS0 has 7 sentences besides SA, expected 8",
        ),
        (
            remove_files("TRAIN/*/*/S*.PHN", 99),
            "train",
            r"24 faults in .*SX2 has only its .WAV, and 19 more\n",
        ),
        (
            remove_files("TRAIN/*/*/*.*", 999),
            "train",
            "3 faults .*MQAA0 has 0 sentences besides SA, expected 8",
        ),
    ],
)
def test_incomplete(damage: Callable[[Path], None], split: Split, complaint: str, copy: Path) -> None:
    damage(copy / "timit")
    with pytest.raises(DataError, match=rf"(?s){complaint}.*Copy TIMIT again") as raised:
        load_speech("timit", split, copy)
    folder = copy / ("timit" if (copy / "timit").is_dir() else "")
    assert str(raised.value).startswith(f"{folder}: the {split} split of timit is not complete:\n")


def test_the_other_splits_may_be_incomplete(copy: Path) -> None:
    shutil.rmtree(copy / "timit" / "TRAIN")
    shutil.rmtree(next((copy / "timit" / "TEST").glob("*/MDAB0")))
    assert len(load_speech("timit", "validation", copy)) == 16
    with pytest.raises(DataError, match="1 missing in TEST, of 2 speakers: MDAB0"):
        load_speech("timit", "test", copy)


@pytest.mark.parametrize(
    ("suffix", "content", "complaint"),
    [
        ("WAV", lambda content: content[:-2_000], "samples where its header states"),
        ("WAV", lambda content: content[:500], "expected a WAV or NIST SPHERE file|samples where its header"),
        ("WAV", lambda _content: b"", "found 0 bytes"),
        (
            "WAV",
            lambda content: content + bytes(5 * 2**20),
            "bytes, expected a sentence with at most 4,194,304",
        ),
        ("PHN", lambda content: content[: len(content) // 2], "expected"),
        ("PHN", lambda _content: b"", "found 0 phones"),
        ("PHN", lambda content: content.replace(b"h#", b"H#"), "found phone 'H#'"),
    ],
)
def test_damaged_files(suffix: str, content: Callable[[bytes], bytes], complaint: str, copy: Path) -> None:
    path = next((copy / "timit" / "TEST").glob(f"*/MWBT0/SI*.{suffix}"))
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(DataError, match=rf"^{path}.*(?:{complaint})"):
        load_speech("timit", "test", copy)


# --- what is expected of the real one


def test_published_splits() -> None:
    assert sum(PUBLISHED.train.values()) == 462
    assert len(set(PUBLISHED.validation)) == 50
    assert len(set(PUBLISHED.test)) == 24
    assert not set(PUBLISHED.validation) & set(PUBLISHED.test)
    assert sum(name.startswith("F") for name in PUBLISHED.test) == 8  # two men and a woman of each region
    assert sum(name.startswith("F") for name in PUBLISHED.validation) == 18
