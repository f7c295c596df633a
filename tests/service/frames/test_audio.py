"""Every format, rate and number of channels is decoded, and nothing hostile gets past a typed error."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.frames import audio
from service.frames.audio import (
    AudioTooLongError,
    InvalidSamplesError,
    Limits,
    UnreadableAudioError,
    UnsupportedAudioError,
    decode,
)
from tests.service.sounds import FILES, announce, encode, tone

LIMITS = Limits(seconds=20, samples=2_000_000, channels=8, rates=(1000, 200_000))


def whole(data: bytes, rate: int) -> NDArray[np.float32]:
    """What decoding the file in one piece gives, before clipping."""
    samples, from_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return np.asarray(mono if from_rate == rate else soxr.resample(mono, from_rate, rate))


@pytest.mark.parametrize(("container", "encoding", "rate"), FILES)
def test_every_format_gives_the_same_sound(container: str, encoding: str, rate: int) -> None:
    sound = tone(0.1, 0.8, 0.4, rate=rate)
    data = encode(sound, rate, container, encoding)
    waveform = decode(data, 8000, LIMITS)
    assert waveform.dtype == np.float32
    assert waveform.flags.c_contiguous
    assert len(waveform) == pytest.approx(12_000, abs=320)  # codecs pad the last of their blocks
    wanted = tone(0.1, 0.8, 0.4)
    error = np.sqrt(np.mean((waveform[:12_000] - wanted[: len(waveform)]) ** 2))
    assert error < (0.05 if encoding in {"GSM610", "OPUS", "MPEG_LAYER_III", "VORBIS"} else 0.02)
    np.testing.assert_allclose(waveform, whole(data, 8000).clip(-1, 1), atol=1e-6)


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_rate_and_number_of_channels(rate: int, channels: int) -> None:
    generator = np.random.default_rng(rate + channels)
    data = encode(generator.uniform(-1, 1, (rate, channels)), rate)
    waveform = decode(data, 8000, LIMITS)
    assert len(waveform) == 8000
    np.testing.assert_allclose(waveform, whole(data, 8000).clip(-1, 1), atol=1e-6)


def test_channels_are_mixed_by_their_mean() -> None:
    channels = np.array([[1.0, 0.5, 0.0], [-0.25, -0.5, -0.75], [0.5, -0.5, 0.0]])
    assert decode(encode(channels, encoding="FLOAT"), 8000, LIMITS).tolist() == [0.5, -0.5, 0.0]


def test_what_exceeds_full_scale_is_clipped() -> None:
    samples = np.array([0.5, 1.5, -3.0, -1.0])
    assert decode(encode(samples, encoding="FLOAT"), 8000, LIMITS).tolist() == [0.5, 1.0, -1.0, -1.0]
    square = np.sign(tone(1, rate=48_000))  # overshoots when its harmonics go
    assert np.abs(whole(encode(square, 48_000), 8000)).max() > 1.05
    assert np.abs(decode(encode(square, 48_000), 8000, LIMITS)).max() == 1.0


@settings(max_examples=60)
@given(
    st.integers(0, 3000),
    st.sampled_from([8000, 16_000, 44_100]),
    st.integers(1, 8),
    st.integers(8, 5000),
    st.integers(0, 2**32),
)
def test_where_blocks_end_makes_no_difference(
    count: int, rate: int, channels: int, block: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    data = encode(generator.uniform(-1, 1, (count, channels)), rate, encoding="FLOAT")
    at_once = decode(data, 16_000, LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "_BLOCK", block)
        np.testing.assert_allclose(decode(data, 16_000, LIMITS), at_once, atol=1e-6)
        if rate == 16_000:
            np.testing.assert_array_equal(decode(data, 16_000, LIMITS), at_once)


def test_the_same_bytes_give_the_same_waveform() -> None:
    data = encode(tone(0.5, rate=44_100), 44_100, "OGG", "VORBIS")
    np.testing.assert_array_equal(decode(data, 8000, LIMITS), decode(data, 8000, LIMITS))


@pytest.mark.parametrize(
    ("container", "count"), [("WAV", 0), ("NIST", 0), ("AIFF", 0), ("WAV", 1), ("FLAC", 1), ("NIST", 1)]
)
def test_hardly_any_samples(container: str, count: int) -> None:
    assert len(decode(encode(np.full(count, 0.5), container=container), 8000, LIMITS)) == count


def test_an_mp3_behind_an_id3_tag() -> None:
    mp3 = encode(tone(0.5, rate=16_000), 16_000, "MP3")
    tagged = b"ID3\4\0\0\0\0\0\x14TIT2\0\0\0\x0a\0\0\0Seven    " + mp3
    np.testing.assert_array_equal(decode(tagged, 8000, LIMITS), decode(mp3, 8000, LIMITS))


def test_a_wav_from_a_pipe_does_not_know_its_size() -> None:
    data = encode(tone(0.5))
    at = data.index(b"data") + 4
    piped = data[:4] + b"\xff" * 4 + data[8:at] + b"\xff" * 4 + data[at + 4 :]
    np.testing.assert_array_equal(decode(piped, 8000, LIMITS), decode(data, 8000, LIMITS))


def test_the_limit_on_the_duration() -> None:
    limits = replace(LIMITS, seconds=1)
    for rate in (8000, 44_100):
        assert len(decode(encode(np.zeros(rate), rate), 8000, limits)) == 8000
        with pytest.raises(AudioTooLongError, match=r"1\.0 seconds or more"):
            decode(encode(np.zeros(rate + 1), rate), 8000, limits)


def test_the_limit_on_the_samples() -> None:
    limits = replace(LIMITS, samples=1000)
    assert len(decode(encode(np.zeros((500, 2))), 8000, limits)) == 500
    with pytest.raises(AudioTooLongError, match="501 samples or more in each channel, and 2 channels"):
        decode(encode(np.zeros((501, 2))), 8000, limits)


def test_a_header_that_claims_hours_is_refused_before_decoding() -> None:
    flac = announce(encode(tone(0.5), container="FLAC"), 8000 * 3600 * 5)
    with pytest.raises(AudioTooLongError, match=r"18000\.0 seconds"):
        decode(flac[:200], 8000, LIMITS)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (192_000, 8)])
def test_a_bomb_is_refused_while_decoding(rate: int, channels: int) -> None:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, format="FLAC") as file:
        for _ in range(30):
            file.write(np.zeros((rate, channels), np.int16))
    bomb = announce(buffer.getvalue(), 0)
    assert len(bomb) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(AudioTooLongError):
            decode(bomb, 8000, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_stream_of_unknown_length_within_the_limit() -> None:
    flac = encode(tone(0.5), container="FLAC")
    np.testing.assert_array_equal(decode(announce(flac, 0), 8000, LIMITS), decode(flac, 8000, LIMITS))


@pytest.mark.parametrize("rate", [999, 200_001])
def test_the_limits_on_the_rate(rate: int) -> None:
    with pytest.raises(UnsupportedAudioError, match=f"{rate} samples a second"):
        decode(encode(np.zeros(100), rate), 8000, LIMITS)


def test_the_limit_on_the_channels() -> None:
    with pytest.raises(UnsupportedAudioError, match="9 channels"):
        decode(encode(np.zeros((100, 9))), 8000, LIMITS)


@pytest.mark.parametrize(
    ("sample", "encoding", "says"),
    [
        (np.nan, "FLOAT", "NaN or infinite"),
        (np.inf, "FLOAT", "NaN or infinite"),
        (-np.inf, "DOUBLE", "NaN or infinite"),
        (1e300, "DOUBLE", "NaN or infinite"),
        (-32768.0, "FLOAT", "a sample of size 32768, where full scale is 1"),
        (3e38, "FLOAT", "a sample of size 3e\\+38"),
    ],
)
@pytest.mark.parametrize("rate", [8000, 16_000])
def test_numbers_that_are_no_samples(sample: float, encoding: str, says: str, rate: int) -> None:
    samples = np.zeros((300_000, 2))
    samples[290_000, 1] = sample
    with pytest.raises(InvalidSamplesError, match=says):
        decode(encode(samples, rate, encoding=encoding), 8000, replace(LIMITS, seconds=60))


@pytest.mark.parametrize(
    ("container", "share"), [("FLAC", 0.02), ("FLAC", 0.5), ("FLAC", 0.95), ("CAF", 0.02), ("CAF", 0.5)]
)
def test_truncated_files_that_err_are_refused(container: str, share: float) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 20_000)
    data = encode(noise, container=container)
    with pytest.raises(UnreadableAudioError, match="damaged or of a kind that cannot be read"):
        decode(data[: int(len(data) * share)], 8000, LIMITS)


@pytest.mark.parametrize("container", ["WAV", "OGG", "MP3", "NIST", "AU", "AIFF"])
def test_of_other_truncated_files_what_is_there_is_heard(container: str) -> None:
    data = encode(np.random.default_rng(0).uniform(-1, 1, 64_000), 16_000, container)
    waveform = decode(data[: len(data) // 2], 16_000, LIMITS)
    assert 10_000 < len(waveform) < 35_000  # only whole pages of OGG
    np.testing.assert_allclose(waveform[:10_000], decode(data, 16_000, LIMITS)[:10_000], atol=1e-6)


@pytest.mark.parametrize("container", sorted({file[0] for file in FILES}))
def test_headers_alone_are_refused_or_silent(container: str) -> None:
    data = encode(np.random.default_rng(0).uniform(-1, 1, 8000), 16_000, container)
    for length in range(1, 120):
        try:
            assert len(decode(data[:length], 8000, LIMITS)) < 100
        except UnreadableAudioError:
            continue


@pytest.mark.parametrize(
    "container",
    ["RAW", "MAT4", "MAT5", "VOC", "PAF", "IRCAM", "PVF", "AVR", "HTK", "MPC2K", "XI", "WVE", "SDS"],
)
def test_other_formats_are_refused(container: str) -> None:
    encoding = {"RAW": "PCM_16", "XI": "DPCM_16", "WVE": "ALAW"}.get(container)
    with pytest.raises(UnreadableAudioError, match="not audio in a known format"):
        decode(encode(tone(0.5), 8000, container, encoding), 8000, LIMITS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the body is empty"),
        (b"\xff", "known format"),
        (b"hello, world", "known format"),
        (b'{"audio": []}', "known format"),
        (b"\0" * 1000, "known format"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01", "known format"),  # WebM
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "known format"),
        (b"RIFF\x24\0\0\0AVI LIST", "libsndfile: "),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "libsndfile: "),
        (b"ID3", "libsndfile: "),
    ],
)
def test_what_is_no_audio(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableAudioError, match=says):
        decode(data, 8000, LIMITS)


HEADS = [
    b"",
    *(
        encode(tone(0.5, seconds=0.1, rate=rate), rate, container, encoding)
        for container, encoding, rate in FILES
    ),
]


@settings(max_examples=300)
@given(st.sampled_from(HEADS), st.data())
def test_garbage_and_damage_end_in_a_typed_error_or_a_waveform(head: bytes, data: st.DataObject) -> None:
    damaged = bytearray(head)
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            reach = data.draw(st.sampled_from([64, len(damaged)]))
            damaged[data.draw(st.integers(0, min(reach, len(damaged)) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(damaged[: data.draw(st.integers(0, len(damaged)))]) + data.draw(st.binary(max_size=40))
    try:
        waveform = decode(body, 8000, LIMITS)
    except (UnreadableAudioError, UnsupportedAudioError, AudioTooLongError, InvalidSamplesError):
        return
    assert waveform.ndim == 1
    assert waveform.dtype == np.float32
    assert (np.abs(waveform) <= 1).all()  # so that NaN fails too


def test_a_seek_to_nowhere_raises_nothing(capfd: Any) -> None:
    memory = audio._Memory(b"0123")
    assert memory.seek(2) == 2
    assert memory.seek(-3, io.SEEK_CUR) == 0
    assert memory.seek(-1) == 0
    assert memory.seek(2**64) == 0
    assert memory.seek(0, io.SEEK_END) == 4
    assert capfd.readouterr().err == ""
