"""Streamed samples become the waveform that a file of them would, however they are cut."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from service.frames import audio
from service.frames.audio import InvalidSamplesError
from service.streams.pcm import Encoding, PCMDecoder

LIMITS = audio.Limits(seconds=60, samples=10**7, channels=1, rates=(1000, 768_000))


def noise(count: int, seed: int, loudest: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-loudest, loudest, count)


def raw(samples: np.ndarray, encoding: Encoding) -> bytes:
    if encoding == "pcm16":
        return (samples * 32767).astype("<i2").tobytes()
    return samples.astype("<f4").tobytes()


def decoded(pieces: list[bytes], encoding: Encoding, rate: int, wanted: int) -> np.ndarray:
    decoder = PCMDecoder(encoding, rate, wanted)
    waveform = np.concatenate([*(decoder.decode(piece) for piece in pieces), decoder.finish()])
    assert decoder.samples == sum(map(len, pieces)) // (2 if encoding == "pcm16" else 4)
    return waveform


@settings(max_examples=60)
@given(
    rate=st.sampled_from([8000, 16000, 44100, 48000, 11025, 7999, 192_000]),
    encoding=st.sampled_from(["pcm16", "float32"]),
    count=st.integers(0, 20_000),
    data=st.data(),
)
def test_the_waveform_does_not_depend_on_the_pieces(
    rate: int, encoding: Encoding, count: int, data: st.DataObject
) -> None:
    stream = raw(noise(count, seed=count), encoding)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    pieces = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    whole = decoded([stream], encoding, rate, 8000)
    np.testing.assert_array_equal(decoded(pieces, encoding, rate, 8000), whole)
    assert whole.dtype == np.float32


@pytest.mark.parametrize("rate", [8000, 48000])
@pytest.mark.parametrize(("encoding", "subtype"), [("pcm16", "PCM_16"), ("float32", "FLOAT")])
def test_it_is_what_a_file_gives(rate: int, encoding: Encoding, subtype: str) -> None:
    samples = noise(rate + 7, seed=1, loudest=1.0 if encoding == "pcm16" else 1.5)
    stream = raw(samples, encoding)
    file = io.BytesIO()
    dtype = "<i2" if encoding == "pcm16" else "<f4"
    soundfile.write(file, np.frombuffer(stream, dtype), rate, subtype, format="WAV")
    expected = audio.decode(file.getvalue(), 8000, LIMITS)
    np.testing.assert_array_equal(decoded([stream], encoding, rate, 8000), expected)
    assert abs(expected).max() <= 1


def test_pcm16_is_scaled_by_its_full_scale() -> None:
    stream = np.array([-32768, 0, 16384, 32767], "<i2").tobytes()
    np.testing.assert_array_equal(decoded([stream], "pcm16", 8000, 8000), [-1, 0, 0.5, 32767 / 32768])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "NaN or infinite"),
        (np.inf, "NaN or infinite"),
        (-np.inf, "NaN or infinite"),
        (-20.0, "a sample of size 20, where full scale is 1"),
    ],
)
def test_impossible_samples_are_refused_and_change_nothing(value: float, message: str) -> None:
    decoder = PCMDecoder("float32", 8000, 8000)
    good = noise(10, seed=2).astype("<f4").tobytes()
    decoder.decode(good[:6])
    bad = np.array([0, value, 0], "<f4").tobytes()
    with pytest.raises(InvalidSamplesError, match=message):
        decoder.decode(good[6:8] + bad)
    assert decoder.samples == 1
    np.testing.assert_array_equal(decoder.decode(good[6:]), np.frombuffer(good, "<f4")[1:])


def test_a_part_of_a_sample_can_be_dropped() -> None:
    decoder = PCMDecoder("pcm16", 8000, 8000)
    stream = np.arange(4, dtype="<i2").tobytes()
    decoder.decode(stream[:5])
    assert decoder.count(stream[5:6]) == 3
    decoder.drop_part()
    assert decoder.samples == 2
    assert decoder.count(stream[4:]) == 4
    np.testing.assert_array_equal(decoder.decode(stream[4:]) * 32768, [2, 3])
