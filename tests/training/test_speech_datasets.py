"""What all corpora of speech share: labelled recordings, audio files, sample rates, and the registry."""

import os
import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.data import SPEECH, DataError, Segment, Speech, Split, Utterance, load_speech
from training.data.audio import MAX_SECONDS, decode, resample
from training.data.draws import Draws
from training.data.endpoints import speech_span
from training.data.speech import resampled
from training.data.sphere import encode_sphere

Samples = npt.NDArray[np.float32]


def utterance(length: int, *bounds: int) -> Utterance:
    """Of ``length`` samples, with a segment called a, b, ... from each bound to the next."""
    segments = tuple(Segment(*span, chr(97 + index)) for index, span in enumerate(pairwise(bounds)))
    return Utterance("name", "speaker", np.zeros(length, np.float32), segments, label=None)


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    length = draw(st.integers(1, 400))
    inner = draw(st.sets(st.integers(1, length), max_size=8)) - {length}
    return utterance(length, 0, *sorted(inner), length)


# --- the registry


def speech(split: Split, each: Utterance, sample_rate: int = 8_000) -> Speech:
    return Speech("two", split, sample_rate, ("a",), None, {"a": "a"}, (each, each), {"source": "0"})


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'mnist'; known: fsdd, timit, synthetic-timit"):
        load_speech("mnist", "train", tmp_path)
    with pytest.raises(DataError, match="'dev'; known: train, validation, test"):
        load_speech("fsdd", "dev", tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dataset", "complaint"),
    [
        ("fsdd", "fsdd has no option 'speaker'; known: speakers, leave_out"),
        ("timit", "timit has no option 'speaker'; it has none"),
        ("synthetic-timit", "synthetic-timit has no option 'speaker'; it has none"),
    ],
)
def test_unknown_option(dataset: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        load_speech(dataset, "train", tmp_path, options={"speaker": "theo"})


def test_a_corpus_plugs_in_by_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_two(split: Split, _root: Path, options: Mapping[str, Any]) -> Speech:
        return speech(split, utterance(options["length"], 0, options["length"]))

    monkeypatch.setitem(SPEECH, "two", load_two)
    loaded = load_speech("two", "test", tmp_path, options={"length": 80})
    assert (len(loaded), loaded.split, loaded.sample_rate) == (2, "test", 8_000)
    slower = load_speech("two", "test", tmp_path, options={"length": 80}, sample_rate=4_000)
    assert (slower.sample_rate, len(slower.utterances[0].samples)) == (4_000, 40)


def test_the_data_layer_needs_no_torch() -> None:
    script = "import sys, training.data; print(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stdout.split())
    assert "training.data.synthetic_timit" in loaded
    assert not {"torch", "lightning", "onnx", "onnxruntime", "rich", "sklearn", "espeakng_loader"} & loaded


# --- utterances


@pytest.mark.parametrize(
    ("length", "bounds"),
    [
        (10, (0, 9)),
        (10, (0, 11)),
        (10, (1, 10)),
        (10, (0, 5, 5, 10)),
        (10, (0, 7, 3, 10)),
        (10, ()),
        (0, (0, 0)),
    ],
)
def test_segments_that_do_not_cover(length: int, bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"name: the segments do not cover its {length} samples"):
        utterance(length, *bounds)


def test_segments_with_a_gap() -> None:
    with pytest.raises(ValueError, match="do not cover"):
        Utterance("name", "s", np.zeros(4, np.float32), (Segment(0, 1, "a"), Segment(2, 4, "b")), None)


def test_frame_labels_by_hand() -> None:
    each = utterance(10, 0, 3, 6, 10)
    assert each.frame_labels(1) == list("aaabbbcccc")
    assert each.frame_labels(2) == list("abbcc")  # samples 1, 3, 5, 7, 9
    assert each.frame_labels(3) == list("abc")  # samples 1, 4, 7
    assert each.frame_labels(4) == list("ac")  # samples 2, 6
    assert each.frame_labels(10) == ["b"]
    assert each.frame_labels(11) == []
    with pytest.raises(ValueError, match="hop_length: found 0, expected at least 1"):
        each.frame_labels(0)


@given(utterances(), st.integers(1, 50))
def test_frame_labels_are_those_of_the_middle_samples(each: Utterance, hop_length: int) -> None:
    by_sample = [segment.label for segment in each.segments for _ in range(segment.start, segment.end)]
    expected = [
        by_sample[frame * hop_length + hop_length // 2] for frame in range(len(by_sample) // hop_length)
    ]
    assert each.frame_labels(hop_length) == expected


# --- other sample rates


@given(utterances(), st.sampled_from([1_000, 4_000, 8_000, 11_025, 16_000, 48_000]))
def test_segments_move_with_the_samples(each: Utterance, sample_rate: int) -> None:
    other = resampled(speech("train", each), sample_rate)
    moved = other.utterances[0]
    assert (other.sample_rate, other.dataset, other.checksums) == (sample_rate, "two", {"source": "0"})
    assert abs(len(moved.samples) - len(each.samples) * sample_rate / 8_000) <= 1
    where = {segment.label: segment for segment in each.segments}
    for segment in moved.segments[:-1]:  # the last ends where the samples do
        assert abs(segment.end - where[segment.label].end * sample_rate / 8_000) <= 1


@pytest.mark.parametrize("sample_rate", [999, 192_001, 0, -8_000])
def test_sample_rates_out_of_range(sample_rate: int) -> None:
    with pytest.raises(DataError, match="expected 1,000 to 192,000"):
        resampled(speech("train", utterance(10, 0, 10)), sample_rate)


def test_the_same_sample_rate_changes_nothing() -> None:
    each = speech("train", utterance(10, 0, 10))
    assert resampled(each, 8_000) is each


def tone(frequency: float, sample_rate: int, seconds: float = 0.5, level: float = 0.5) -> Samples:
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def test_resampling_keeps_what_both_rates_can_have_and_drops_the_rest() -> None:
    kept = resample(tone(1_000, 16_000), 16_000, 8_000)
    assert np.abs(kept - tone(1_000, 8_000))[200:-200].max() < 1e-3
    assert np.abs(resample(tone(6_000, 16_000), 16_000, 8_000))[200:-200].max() < 1e-3


def test_resampling_stays_in_range() -> None:
    square = np.sign(tone(700, 16_000, level=1.0)).astype(np.float32)
    assert np.abs(resample(square, 16_000, 8_000)).max() == 1


# --- audio files


def wave(samples: Samples, sample_rate: int, **form: str) -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, sample_rate, **{"format": "WAV", "subtype": "PCM_16", **form})
    return file.getvalue()


def sphere(samples: Samples, sample_rate: int) -> bytes:
    return encode_sphere(np.rint(samples * 32_768).astype(np.int16), sample_rate, {"database_id": "test"})


SOURCE = Path("file.wav")


@pytest.mark.parametrize("encode", [wave, sphere])
def test_decode(encode: Any) -> None:
    samples = np.array([0, 0.5, -1, 1 / 32_768, 32_767 / 32_768], np.float32)
    decoded = decode(encode(samples, 8_000), SOURCE, sample_rate=8_000)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, samples)


def test_other_software_reads_our_sphere_files() -> None:
    with soundfile.SoundFile(BytesIO(sphere(tone(440, 16_000), 16_000))) as file:
        assert (file.format, file.subtype, file.samplerate, file.channels) == ("NIST", "PCM_16", 16_000, 1)


def test_chunks_before_the_data_are_skipped() -> None:
    content = wave(tone(440, 8_000), 8_000)
    extra = b"LIST" + (5).to_bytes(4, "little") + b"hello\0"  # of odd size, so padded
    assert content[36:40] == b"data"
    padded = content[:36] + extra + content[36:]
    np.testing.assert_array_equal(
        decode(padded, SOURCE, sample_rate=8_000), decode(content, SOURCE, sample_rate=8_000)
    )


@pytest.mark.parametrize("encode", [wave, sphere])
@pytest.mark.parametrize("missing", [1, 2, 1_000])
def test_recordings_cut_short(encode: Any, missing: int) -> None:
    content = encode(tone(440, 8_000), 8_000)[:-missing]
    with pytest.raises(DataError, match=r"file\.wav: found .* samples where its header states 4,000"):
        decode(content, SOURCE, sample_rate=8_000)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "found 0 bytes starting b'', expected a WAV or NIST SPHERE file"),
        (b"<html>no", "found 8 bytes starting b'<html>no'"),
        (wave(tone(440, 8_000), 8_000)[:30], "expected a WAV or NIST SPHERE file"),
        (wave(tone(440, 8_000), 16_000), r"1 channel\(s\) of PCM_16 at 16,000 Hz, expected 1 .* at 8,000 Hz"),
        (wave(np.zeros((99, 2), np.float32), 8_000), r"2 channel\(s\) of PCM_16 at 8,000 Hz"),
        (wave(tone(440, 8_000), 8_000, subtype="FLOAT"), r"1 channel\(s\) of FLOAT"),
        (wave(tone(440, 8_000), 8_000, subtype="ULAW"), r"1 channel\(s\) of ULAW"),
        (wave(np.zeros(0, np.float32), 8_000), "0 samples where its header states 0"),
        (sphere(np.zeros(0, np.float32), 8_000), "found"),
        (wave(np.zeros(8_000 * 61, np.float32), 8_000), f"more than {MAX_SECONDS:.0f} s"),
        (wave(tone(440, 8_000), 8_000, format="AIFF"), "without a data chunk, expected RIFF"),
        (
            sphere(tone(440, 8_000), 8_000).replace(b"sample_count", b"sample_kount"),
            "without sample_count|expected a WAV or NIST SPHERE file",
        ),
    ],
)
def test_files_that_are_no_recordings(content: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        decode(content, SOURCE, sample_rate=8_000)


@given(st.binary(max_size=200), st.sampled_from([b"", b"RIFF", b"NIST_1A\n   1024\n"]))
def test_no_content_gets_past_the_checks(content: bytes, start: bytes) -> None:
    with pytest.raises(DataError):
        decode(start + content, SOURCE, sample_rate=8_000)


# --- where a word begins and ends

RATE = 8_000
STEP = RATE // 200  # 5 ms
WINDOW = RATE // 40  # 25 ms

words = hnp.arrays(
    np.float32,
    st.integers(1, 60).map(lambda blocks: blocks * STEP),
    elements=st.floats(-1, 1, width=16).map(lambda value: np.float32(value)),
    fill=st.just(np.float32(0)),
)


def span_of(*parts: tuple[float, float]) -> tuple[int, int]:
    """The span in a recording made of 300 Hz tones, given as (seconds, level)."""
    return speech_span(np.concatenate([tone(300, RATE, *part) for part in parts]), RATE)


def test_a_word_between_silences() -> None:
    start, end = span_of((0.2, 0), (0.3, 0.5), (0.4, 0))
    assert abs(start - 0.2 * RATE) <= WINDOW / 2
    assert abs(end - 0.5 * RATE) <= WINDOW / 2 + STEP


@pytest.mark.parametrize(("level", "counts"), [(-30, True), (-40, False)])
def test_weak_sounds_count_down_to_35_decibels(level: float, counts: bool) -> None:
    start, end = span_of((0.2, 0), (0.1, 0.5 * 10 ** (level / 20)), (0.3, 0.5), (0.2, 0))
    assert (start < 0.23 * RATE) == counts
    assert end > 0.59 * RATE


@pytest.mark.parametrize(("closure", "counts"), [(0.1, True), (0.2, False)])
def test_a_burst_after_a_closure_counts(closure: float, counts: bool) -> None:
    _, end = span_of((0.1, 0), (0.3, 0.5), (closure, 0), (0.04, 0.1), (0.3, 0))
    assert (end > (0.4 + closure) * RATE) == counts


@pytest.mark.parametrize("pause", [0.1, 0.2])
def test_a_click_before_the_word_does_not_count(pause: float) -> None:
    start, _ = span_of((0.02, 0.1), (pause, 0), (0.3, 0.5))
    assert abs(start - (0.02 + pause) * RATE) <= WINDOW / 2


def test_pauses_inside_belong_to_the_word() -> None:
    start, end = span_of((0.1, 0), (0.1, 0.3), (0.04, 0), (0.2, 0.5), (0.1, 0), (0.1, 0.3), (0.1, 0))
    assert start < 0.1 * RATE
    assert end > 0.63 * RATE


def test_nothing_said() -> None:
    assert speech_span(np.zeros(RATE, np.float32), RATE) == (0, 0)
    assert speech_span(np.zeros(0, np.float32), RATE) == (0, 0)
    assert speech_span(tone(300, RATE, level=1e-5), RATE) == (0, 0)
    assert speech_span(np.ones(1, np.float32), RATE) == (0, 1)


@given(words, st.integers(-3, 3))
def test_loudness_does_not_matter(word: Samples, doublings: int) -> None:
    loud = (word / 8 + 0.25 * np.sign(word)).astype(np.float32)  # so that the floor is out of reach
    scaled = (loud * np.float32(2.0**doublings) / 8).astype(np.float32)
    assert speech_span(scaled, RATE) == speech_span(loud, RATE)


@given(words, st.integers(0, 40), st.integers(0, 40))
def test_silence_around_moves_the_word(word: Samples, before: int, after: int) -> None:
    start, end = speech_span(word, RATE)
    moved = speech_span(np.pad(word, (before * STEP, after * STEP)), RATE)
    if end == 0:
        assert moved == (0, 0)
        return
    # A word at the edge of the recording is found up to half a window longer once there is silence around it.
    reach = WINDOW // 2 + STEP
    assert start + before * STEP - reach <= moved[0] <= start + before * STEP
    assert end + before * STEP <= moved[1] <= end + before * STEP + reach
    apart = speech_span(np.pad(word, WINDOW), RATE)
    moved = speech_span(np.pad(word, (WINDOW + before * STEP, WINDOW + after * STEP)), RATE)
    assert moved == (apart[0] + before * STEP, apart[1] + before * STEP)


@given(words)
def test_the_span_lies_inside(word: Samples) -> None:
    start, end = speech_span(word, RATE)
    assert (start, end) == (0, 0) or 0 <= start < end <= len(word)


# --- random choices


def test_draws_never_change() -> None:
    draws = Draws(0, "name")
    assert [draws.choose("abcdefgh") for _ in range(8)] == list("faebghaa")
    assert round(draws.uniform(10, 20), 6) == 14.586462
    assert draws.noise(3).astype(np.float64).round(4).tolist() == [-0.7676, 0.1459, -0.9999]


def test_draws_are_uniform_and_depend_on_the_key() -> None:
    noise = Draws(1).noise(100_000)
    assert noise.dtype == np.float32
    assert -1 <= noise.min() < noise.max() < 1
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 3**-0.5) < 0.01
    assert Draws(1).noise(5).tolist() == noise[:5].tolist() != Draws(2).noise(5).tolist()
    counts = np.bincount([Draws(2, index).choose(range(4)) for index in range(4_000)])
    assert counts.min() > 900
