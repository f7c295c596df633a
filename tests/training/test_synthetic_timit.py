"""The synthetic corpus: what espeak speaks, how it is transcribed, and how the corpus comes about."""

import json
import locale
import shutil
import subprocess
import sys
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from training.data import DataError, Split, load_speech, synthetic_timit
from training.data.draws import Draws
from training.data.espeak import Espeak, Spoken, Voice, open_espeak
from training.data.phn import parse_phn
from training.data.phones import CLASSES, SYMBOLS
from training.data.speech import Segment
from training.data.synthetic_phones import CLOSURES, PHONES, transcribe
from training.data.synthetic_sentences import HELD_OUT, SHARED, TRAINING, compose
from training.data.synthetic_speakers import VARIANTS, make_speaker, read_aloud, texts
from training.data.synthetic_timit import NAME, VERSION, Size, make_synthetic_timit

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TINY = Size(train=1, validation=1, test=1)
VOICE = Voice("en-us", "m3", rate=170, pitch=50, range=50)
TEXT = "The old butcher asked six zebras, quietly, whether water was better."


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- espeak


def test_espeak_says_when_phonemes_begin() -> None:
    with open_espeak(0) as espeak:
        spoken = espeak.say(TEXT, VOICE)
    assert espeak.sample_rate == 22_050
    assert spoken.samples.dtype == np.int16
    starts = [start for start, _ in spoken.phonemes]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < 22_050 / 10
    assert starts[-1] <= len(spoken.samples)
    mnemonics = [mnemonic.lstrip("',") for _, mnemonic in spoken.phonemes]
    assert " ".join(mnemonics).startswith("D I2 ; oU l d b U tS 3 r- aa s k t s I k s z i: b r @ z _:")
    s = mnemonics.index("s")  # loud at high frequencies
    spectrum = np.abs(np.fft.rfft(spoken.samples[starts[s] : starts[s + 1]].astype(float)))
    frequencies = np.fft.rfftfreq(starts[s + 1] - starts[s], 1 / 22_050)
    assert spectrum[frequencies > 3_000].sum() > 4 * spectrum[frequencies < 1_000].sum()


def test_instances_do_not_influence_each_other() -> None:
    voice = Voice("en-us", "f1", 170, 50, 50)

    def say_twice(espeak: Espeak) -> list[bytes]:
        return [espeak.say(text, voice).samples.tobytes() for text in (TEXT, "Six fish.", TEXT)]

    with open_espeak(1) as first, open_espeak(1) as second:
        expected = say_twice(first)
        assert say_twice(first) != expected  # which is why every corpus is made by a new instance
        assert say_twice(second) == expected
    with open_espeak(1) as third:
        assert say_twice(third) == expected


def test_espeak_in_threads() -> None:
    results: list[bytes] = []

    def say() -> None:
        with open_espeak(0) as espeak:
            results.append(espeak.say(TEXT, VOICE).samples.tobytes())

    threads = [threading.Thread(target=say) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1


def test_espeak_leaves_the_locale_alone() -> None:
    before = locale.setlocale(locale.LC_CTYPE)
    with open_espeak(0):
        assert locale.setlocale(locale.LC_CTYPE) == before


def test_voices_that_espeak_does_not_have() -> None:
    with open_espeak(0) as espeak:
        for accent, variant in (("en-us", "nobody"), ("en-zz", "m3"), ("en-us", "")):
            with pytest.raises(DataError, match=rf"espeak-ng 1\.\S+ has no voice {accent}\+{variant}"):
                espeak.say(TEXT, Voice(accent, variant, 170, 50, 50))


def test_text_of_which_nothing_is_spoken() -> None:
    with open_espeak(0) as espeak, pytest.raises(DataError, match="failed to speak ''"):
        espeak.say("", VOICE)


def test_no_voice_clips() -> None:
    with open_espeak(0) as espeak:
        for variant in (name for pair in VARIANTS.values() for names in pair for name in names):
            spoken = espeak.say(TEXT, Voice("en-us", variant, 170, 62, 70))
            assert 2_000 < np.abs(spoken.samples.astype(int)).max() < 32_000


def test_without_data(tmp_path: Path) -> None:
    from espeakng_loader import get_library_path

    with pytest.raises(DataError, match=r"found no usable data in .*; reinstall espeakng-loader"):
        Espeak(Path(get_library_path()), tmp_path / "nothing", 0)


def test_a_library_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import espeakng_loader

    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    with pytest.raises(DataError, match="The library of espeakng-loader cannot be loaded: "), open_espeak(0):
        pass


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(
        DataError, match=r"needs the package espeakng-loader.*Run pip install espeakng-loader"
    ):
        load_speech("synthetic-timit", "train", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f".{NAME}.lock"]


# --- transcriptions: made-up speech, in which every sound is loud and silence is zero, at 1,000 Hz


def spoken(*parts: tuple[str, int]) -> Spoken:
    """Phonemes of so many samples each; "" is silence that espeak puts before the next one unannounced."""
    samples = np.concatenate(
        [np.full(length, 0 if name == "" or name.startswith("_") else 9) for name, length in parts]
    )
    starts = np.cumsum([0, *(length for _, length in parts)])
    phonemes = [(int(start), name) for start, (name, _) in zip(starts[:-1], parts, strict=True) if name]
    return Spoken(samples.astype(np.int16), tuple(phonemes))


def phones(*parts: tuple[str, int]) -> str:
    """How that is transcribed: phones and how long they are, without the silence around."""
    around = [("", 50), *parts, ("_", 50)]
    segments = transcribe(spoken(*around), 1_000)
    assert segments[0].label == segments[-1].label == "h#"
    assert segments[0].start == 0
    assert segments[-1].end == sum(length for _, length in around)
    assert all(first.end == second.start < second.end for first, second in pairwise(segments))
    assert segments[0].end == 50
    return " ".join(f"{each.label}:{each.end - each.start}" for each in segments[1:-1])


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # stops
        ([("a", 100), ("", 40), ("t", 30), ("i", 80)], "ae:100 tcl:40 t:30 iy:80"),
        ([("a", 100), ("", 40), ("tS", 60), ("i", 80)], "ae:100 tcl:40 ch:60 iy:80"),
        ([("a", 100), ("b", 50), ("i", 80)], "ae:100 bcl:30 b:20 iy:80"),
        ([("a", 100), ("", 4), ("g", 50), ("i", 80)], "ae:104 gcl:30 g:20 iy:80"),
        ([("a", 100), ("b", 1), ("i", 80)], "ae:101 iy:80"),  # too short for a stop
        ([("a", 100), ("t#", 40), ("i", 80)], "ae:100 dx:40 iy:80"),
        ([("p", 30), ("i", 80)], "p:30 iy:80"),  # no closure after silence
        ([("i", 80), ("_:", 90), ("p", 30), ("i", 80)], "iy:80 pau:90 p:30 iy:80"),
        # stops that are not released
        ([("a", 100), ("d", 50), ("", 40), ("b", 20), ("i", 9)], "ae:100 dcl:30 d:20 bcl:40 b:20 iy:9"),
        ([("a", 100), ("", 40), ("d", 2), ("", 30), ("b", 20)], "ae:100 dcl:42 bcl:30 b:20"),
        ([("a", 100), ("", 40), ("d", 2), ("", 30), ("s", 60)], "ae:100 dcl:72 s:60"),
        ([("a", 100), ("", 40), ("d", 2), ("", 8), ("s", 60)], "ae:100 dcl:50 s:60"),
        # glottal stops are silence
        ([("I", 90), ("", 40), ("?", 1), ("", 20), ("n-", 70)], "ih:90 q:61 en:70"),
        # silence where no stop is
        ([("s", 60), ("", 30), ("l", 50)], "s:60 epi:30 l:50"),
        ([("s", 60), ("", 10), ("l", 50)], "s:70 l:50"),
        ([("i", 80), ("_:", 40), ("_", 50), ("a", 9)], "iy:80 pau:90 ae:9"),
        ([("i", 80), ("", 10), ("_:", 40), ("a", 9)], "iy:80 pau:50 ae:9"),
        # two phones in one phoneme, stress
        ([("'A@", 100), ("n", 50)], "aa:50 r:50 n:50"),
        ([("',aI3", 101)], "ay:50 axr:51"),
        # an l that closes a syllable
        ([("oU", 150), ("l", 6), ("", 30), ("z", 50)], "ow:100 l:56 epi:30 z:50"),
        ([("l", 60), ("i", 80)], "l:60 iy:80"),
        # variants
        ([("s", 60), ("u:", 90)], "s:60 ux:90"),
        ([("w", 60), ("u:", 90)], "w:60 uw:90"),
        ([("i", 60), ("h", 40), ("a", 90)], "iy:60 hv:40 ae:90"),
        ([("h", 40), ("a", 90)], "hh:40 ae:90"),
        ([("s", 60), ("@", 40), ("", 40), ("p", 30)], "s:60 ax-h:40 pcl:40 p:30"),
        ([("s", 60), ("@", 40), ("n", 40)], "s:60 ax:40 n:40"),
    ],
)  # fmt: skip
def test_transcribe(parts: list[tuple[str, int]], expected: str) -> None:
    assert phones(*parts) == expected


def test_phonemes_of_no_length_vanish() -> None:
    assert phones(("a", 50), ("r", 0), ("i", 50)) == "ae:50 iy:50"


def test_unknown_phoneme() -> None:
    with pytest.raises(DataError, match="found espeak-ng's phoneme 'Y:', expected one of i i: I"):
        phones(("Y:", 100))


def test_tables_name_phones_of_timit() -> None:
    assert {phone for phones in PHONES.values() for phone in phones} <= SYMBOLS
    assert set(CLOSURES) <= SYMBOLS
    assert set(CLOSURES.values()) <= SYMBOLS


# --- speakers and sentences


def test_sentences_are_few_words_that_occur_once() -> None:
    everything = (*SHARED, *TRAINING, *HELD_OUT)
    assert (len(SHARED), len(TRAINING), len(HELD_OUT)) == (2, 60, 30)
    assert len(set(everything)) == 92
    assert all(text[0].isupper() and text[-1] in ".?!" and len(text) < 90 for text in everything)
    assert len({compose(Draws(index)) for index in range(200)}) > 190


def test_every_sentence_can_be_transcribed() -> None:
    labels: Counter[str] = Counter()
    draws = Draws(0)
    with open_espeak(0) as espeak:
        for index, text in enumerate((*SHARED, *TRAINING, *HELD_OUT, *(compose(draws) for _ in range(60)))):
            speaker = make_speaker(f"{'MF'[index % 2]}QAA0", ("TRAIN", "TEST")[index // 2 % 2], index % 8, 0)
            samples, segments = read_aloud(speaker, text, espeak, draws)
            assert 16_000 < len(samples) < 16_000 * 8
            lines = "".join(f"{each.start} {each.end} {each.label}\n" for each in segments)
            assert parse_phn(lines.encode(), len(samples), Path("x.PHN")) == tuple(segments)
            labels.update(each.label for each in segments)
    assert SYMBOLS - set(labels) == {"em", "eng", "nx"}


def loudness(segments: list[Segment], samples: npt.NDArray[np.float64], wanted: set[str]) -> float:
    """Mean power in decibels of the middle half of the segments with these labels."""
    power = [
        np.mean(samples[(3 * each.start + each.end) // 4 : (each.start + 3 * each.end) // 4 + 1] ** 2.0)
        for each in segments
        if each.label in wanted
    ]
    return float(10 * np.log10(np.mean(power) + 1e-9))


def test_labels_are_where_the_sounds_are() -> None:
    draws = Draws(0)
    with open_espeak(0) as espeak:
        for name in ("MQAA0", "FQAA0"):
            for text in TRAINING[:10]:
                samples, segments = read_aloud(make_speaker(name, "TRAIN", 0, 0), text, espeak, draws)
                waveform = samples / 2**15
                vowels = loudness(segments, waveform, {"iy", "ih", "eh", "ae", "aa", "ao", "ow", "ey", "ah"})
                silences = loudness(segments, waveform, {"h#", "pau", "epi", "tcl", "pcl", "kcl"})
                assert vowels > silences + 20


def test_speakers_differ() -> None:
    speakers = [make_speaker(f"MQA{chr(65 + index)}0", "TRAIN", index, 0) for index in range(26)]
    assert len({speaker.voice for speaker in speakers}) == 26
    assert [speaker.folder.split("/")[1] for speaker in speakers[:9]] == [f"DR{1 + n % 8}" for n in range(9)]
    assert {speaker.voice.accent for speaker in speakers if "/DR6/" in speaker.folder} == {"en-us-nyc"}
    assert make_speaker("MQAA0", "TRAIN", 0, 0) == speakers[0] != make_speaker("MQAA0", "TRAIN", 0, 1)


def test_train_and_test_share_no_voice_and_no_text() -> None:
    train = [make_speaker(f"{'MF'[n % 2]}QA{chr(65 + n)}0", "TRAIN", n, 0) for n in range(26)]
    test = [make_speaker(f"{'MF'[n % 2]}AB{chr(65 + n)}0", "TEST", n, 0) for n in range(26)]
    assert not {each.voice.variant for each in train} & {each.voice.variant for each in test}
    read = {
        part: Counter(pair for speaker in speakers for pair in texts(speaker, 0).items())
        for part, speakers in (("train", train), ("test", test))
    }
    assert not {text for _, text in read["train"]} & {text for _, text in read["test"]}
    together = read["train"] + read["test"]
    assert len({name for name, _ in together}) == len(together)  # a name is always the same text
    assert all(count == 1 for (name, _), count in together.items() if name.startswith("SI"))
    assert Counter(name[:2] for name in texts(train[0], 0)) == {"SA": 2, "SX": 5, "SI": 3}
    assert Counter(name[:2] for name in texts(test[0], 0)) == {"SX": 5, "SI": 3}


# --- the corpus


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a corpus of three speakers. Not to be changed."""
    root = tmp_path_factory.mktemp("tiny")
    make_synthetic_timit(root, TINY)
    return root


def test_layout(tiny: Path) -> None:
    folder = tiny / NAME
    names = sorted(files(folder))
    assert names[:2] == ["README.txt", "TEST/DR1/FAKS0/SI91.PHN"]
    assert Counter(Path(name).suffix for name in names) == {
        ".WAV": 26, ".PHN": 26, ".TXT": 26, ".txt": 1, ".json": 1,
    }  # fmt: skip
    assert {str(path.relative_to(folder)) for path in folder.glob("*/*/*")} == {
        "TRAIN/DR1/MQAA0", "TEST/DR1/FAKS0", "TEST/DR2/MDAB0",
    }  # fmt: skip
    assert "not TIMIT" in (folder / "README.txt").read_text()
    marker = json.loads((folder / "synthetic.json").read_text())
    assert (marker["version"], marker["seed"]) == (VERSION, 0)
    assert marker["synthesiser"].startswith("eSpeak NG 1.")
    stem = folder / "TRAIN" / "DR1" / "MQAA0" / "SA1"
    with soundfile.SoundFile(stem.with_suffix(".WAV")) as file:
        assert (file.format, file.subtype, file.samplerate, file.channels) == ("NIST", "PCM_16", 16_000, 1)
        frames = file.frames
    assert b"database_id -s15 synthetic-timit\n" in stem.with_suffix(".WAV").read_bytes()[:1_024]
    assert stem.with_suffix(".TXT").read_text() == f"0 {frames} {SHARED[0]}\n"
    lines = stem.with_suffix(".PHN").read_text().splitlines()
    assert lines[0].startswith("0 ")
    assert lines[0].endswith(" h#")
    assert lines[-1].endswith(f" {frames} h#")
    assert [path.name for path in tiny.iterdir() if path.name.startswith(".")] == [f".{NAME}.lock"]


@pytest.mark.parametrize(
    ("split", "speaker"), [("train", "MQAA0"), ("validation", "FAKS0"), ("test", "MDAB0")]
)
def test_splits(split: Split, speaker: str, tiny: Path) -> None:
    speech = load_speech("synthetic-timit", split, tiny, sample_rate=8_000)
    assert (speech.dataset, speech.split, speech.sample_rate) == ("synthetic-timit", split, 8_000)
    assert speech.labels == tuple(CLASSES)
    assert {each.speaker for each in speech.utterances} == {speaker}
    assert len(speech) == 8
    assert list(speech.checksums) == [split]


def test_the_same_everywhere(tiny: Path, tmp_path: Path) -> None:
    """In this process after others were made, and in another process."""
    make_synthetic_timit(tmp_path / "here", TINY)
    script = (
        "import sys; from pathlib import Path; from training.data.synthetic_timit import *\n"
        "make_synthetic_timit(Path(sys.argv[1]), Size(1, 1, 1))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "there")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    expected = files(tiny / NAME)
    assert files(tmp_path / "here" / NAME) == expected
    assert files(tmp_path / "there" / NAME) == expected


def test_seeds_differ(tiny: Path, tmp_path: Path) -> None:
    other = files(make_synthetic_timit(tmp_path, TINY, seed=1))
    recordings = {name: content for name, content in files(tiny / NAME).items() if name.endswith(".WAV")}
    assert all(other.get(name) != content for name, content in recordings.items())


def test_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        synthetic_timit, "make_synthetic_timit", lambda root: make_synthetic_timit(root, TINY)
    )
    first = load_speech("synthetic-timit", "test", tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / NAME).rglob("*")}
    make_synthetic_timit(tmp_path, Size(2, 2, 2))
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert load_speech("synthetic-timit", "test", tmp_path).checksums == first.checksums
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / NAME).rglob("*")} == times


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_synthetic_timit(tmp_path, TINY)
    captured = capsys.readouterr()
    assert "making synthetic-timit" in captured.err
    assert not captured.out


def test_several_at_once(tiny: Path, tmp_path: Path) -> None:
    made = []
    original = synthetic_timit._make

    def count(folder: Path, size: Size, seed: int) -> None:
        made.append(folder)
        original(folder, size, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_timit, "_make", count)
        threads = [threading.Thread(target=make_synthetic_timit, args=(tmp_path, TINY)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 1
    assert files(tmp_path / NAME) == files(tiny / NAME)


def test_an_older_version_is_replaced_and_what_was_interrupted_removed(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / NAME, tmp_path / NAME)
    marker = tmp_path / NAME / "synthetic.json"
    marker.write_text(marker.read_text().replace(f'"version": {VERSION}', '"version": 0'))
    (tmp_path / NAME / "TRAIN" / "leftover").mkdir()
    (tmp_path / f".{NAME}-interrupted" / "new").mkdir(parents=True)
    make_synthetic_timit(tmp_path, TINY)
    assert files(tmp_path / NAME) == files(tiny / NAME)
    assert not (tmp_path / NAME / "TRAIN" / "leftover").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{NAME}.lock", NAME]


def test_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic_timit, "encode_sphere", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic_timit(tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == [f".{NAME}.lock"]


@pytest.mark.parametrize(
    "marker", [None, "", "{}", "[]", '{"version": 1}', '{"version": 1, "size": {"a": 1}}']
)
def test_what_was_not_made_here_is_left_alone(marker: str | None, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "mine").touch()
    if marker is not None:
        (tmp_path / NAME / "synthetic.json").write_text(marker)
    for attempt in (make_synthetic_timit, lambda root: load_speech("synthetic-timit", "test", root)):
        with pytest.raises(DataError, match=r"found something without a valid synthetic\.json.*Move it away"):
            attempt(tmp_path)
    assert (tmp_path / NAME / "mine").exists()


def test_a_damaged_corpus_says_how_to_make_it_again(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / NAME, tmp_path / NAME)
    shutil.rmtree(tmp_path / NAME / "TRAIN" / "DR1")
    with pytest.raises(DataError, match=rf"(?s)found 0 speakers.*Remove {tmp_path / NAME} to have it made"):
        load_speech("synthetic-timit", "train", tmp_path)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"the synthetic corpus could not be made: .*Set --data or MOMENTUM_DATA"
    ):
        make_synthetic_timit(tmp_path / "file", TINY)


@pytest.mark.parametrize("size", [(0, 1, 1), (1, 51, 1), (1, 1, 25), (677, 1, 1)])
def test_sizes(size: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="speakers, expected 1 to"):
        Size(*size)


def test_timit_is_not_found_in_it(tiny: Path) -> None:
    with pytest.raises(DataError, match="TIMIT was looked for"):
        load_speech("timit", "test", tiny)
    with pytest.raises(DataError, match="found a synthetic corpus, expected TIMIT"):
        load_speech("timit", "test", tiny / NAME)
