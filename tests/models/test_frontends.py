"""Front ends against scipy, in pieces against the whole, and what they refuse."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import ShortTimeFFT, get_window

from models import FRONT_ENDS, FrontEnd, LogMagnitudeSTFT, LogMel

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("log_magnitude_stft", {}),
    ("log_magnitude_stft", {"win_length": 100, "hop_length": 33, "n_fft": 128}),
    ("log_magnitude_stft", {"win_length": 64, "hop_length": 64, "n_fft": 64, "floor": 1e-3}),
    ("log_magnitude_stft", {"win_length": 7, "hop_length": 1, "n_fft": 9}),
    ("log_mel", {}),
    ("log_mel", {"sample_rate": 16_000, "win_length": 400, "hop_length": 160, "n_fft": 512}),
    ("log_mel", {"win_length": 31, "hop_length": 30, "n_fft": 33, "bands": 1, "low": 0.0, "high": 2000.0}),
]


def build(kind: str, options: dict[str, Any]) -> FrontEnd:
    """In float64 from the start: `double()` would keep tables rounded to float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return FRONT_ENDS[kind](**options)
    finally:
        torch.set_default_dtype(before)


def noise(batch: int, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 2.0 * torch.rand(batch, samples, generator=generator, dtype=torch.float64) - 1.0


def scipys(front_end: FrontEnd, waveform: torch.Tensor) -> torch.Tensor:
    """The features, of scipy's transform and of numpy's interpolation between the bands' corners."""
    win, hop, rate, n_fft = (
        getattr(front_end, name) for name in ("win_length", "hop_length", "sample_rate", "n_fft")
    )
    transform = ShortTimeFFT(get_window("hann", win), hop, rate, mfft=n_fft)
    first = hop - win + win // 2  # the middle of the first frame
    spectrum = transform.stft(waveform.numpy(), 0, waveform.shape[1] // hop, k_offset=first)
    features = np.abs(spectrum.transpose(0, 2, 1)) ** 2
    if isinstance(front_end, LogMel):
        count, low, high = front_end._edges
        # equally far apart on the mel scale: 1 + f / 700 grows by one factor from corner to corner
        corners = 700.0 * (np.geomspace(1.0 + low / 700.0, 1.0 + high / 700.0, count + 2) - 1.0)
        bands = [np.interp(transform.f, corners[i : i + 3], [0.0, 1.0, 0.0]) for i in range(count)]
        features = features @ np.stack(bands).T
    return torch.from_numpy(front_end.scale * np.log(features + front_end.floor))


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_features_are_scipys(kind: str, options: dict[str, Any]) -> None:
    front_end = build(kind, options)
    x = 0.1 * noise(2, 2_000)
    expected = scipys(front_end, x)
    features, _ = front_end(x)
    assert features.shape == (2, 2_000 // front_end.hop_length, front_end.features)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-10)
    single, _ = FRONT_ENDS[kind](**options)(x.float())
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-4 * front_end.scale)


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_a_frame_is_made_of_its_window_and_of_nothing_later(kind: str, options: dict[str, Any]) -> None:
    front_end = build(kind, options)
    win, hop = front_end.win_length, front_end.hop_length
    x = noise(1, 4 * win).requires_grad_()
    features, _ = front_end(x)
    for frame in (0, 1, features.shape[1] - 1):
        (gradient,) = torch.autograd.grad(features[0, frame].sum(), x, retain_graph=True)
        # Hann's window is 0 where it begins
        heard = torch.arange(max(0, (frame + 1) * hop - win + 1), (frame + 1) * hop)
        assert torch.equal(gradient[0].nonzero().flatten(), heard)


def test_the_bands_share_out_all_between_the_first_peak_and_the_last() -> None:
    bands = build("log_mel", {"n_fft": 4096, "bands": 12, "low": 100.0, "high": 3000.0}).bands
    assert bands is not None
    hertz = torch.arange(2049, dtype=torch.float64) * 8000 / 4096
    corners = 700.0 * (np.geomspace(1.0 + 100.0 / 700.0, 1.0 + 3000.0 / 700.0, 14) - 1.0)
    shared = (hertz >= corners[1]) & (hertz <= corners[-2])
    torch.testing.assert_close(bands[shared].sum(dim=1), torch.ones(int(shared.sum()), dtype=torch.float64))
    assert not bands[(hertz <= 100.0) | (hertz >= 3000.0)].any()
    # on the scale as it was published, 1000 Hz is 1000 mel
    (only,) = build("log_mel", {"n_fft": 8000, "bands": 1, "low": 0.0, "high": 3429.0}).bands.T
    assert int(only.argmax()) == pytest.approx(1000, abs=2)


@settings(max_examples=60)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_any_cut_streams_to_the_whole(kind: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    front_end = build(*kind)
    hop = front_end.hop_length
    sizes = st.one_of(st.sampled_from([0, 1, hop]), st.integers(0, 2 * front_end.win_length))
    pieces = data.draw(st.lists(sizes, min_size=1, max_size=8))
    x = noise(2, sum(pieces))
    whole, after = front_end(x)
    state, parts, heard = None, [], 0
    for piece in x.split(pieces, dim=1):
        features, state = front_end(piece, state)
        parts.append(features)
        heard += piece.shape[1]
        assert sum(part.shape[1] for part in parts) == heard // hop
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-9)
    assert torch.equal(state, after)


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_normalising_again_composes(kind: str, options: dict[str, Any]) -> None:
    front_end = build(kind, options)
    x = noise(2, 3_000)
    plain, _ = front_end(x)
    for scale in (1.0, 7.0):
        features, _ = front_end(scale * x / 10.0)
        front_end.normalize_(features.mean(dim=(0, 1)), features.std(dim=(0, 1)))
        features, _ = front_end(scale * x / 10.0)
        zeros = features.new_zeros(front_end.features)
        torch.testing.assert_close(features.mean(dim=(0, 1)), zeros, rtol=0, atol=1e-9)
        torch.testing.assert_close(features.std(dim=(0, 1)), zeros + 1.0, rtol=0, atol=1e-9)
    again, _ = front_end(x)
    torch.testing.assert_close(again * front_end.std + front_end.mean, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", FRONT_ENDS)
def test_silence_is_a_feature_like_any_other(kind: str) -> None:
    front_end = FRONT_ENDS[kind]()
    x = torch.zeros(2, 1_000, requires_grad=True)
    features, _ = front_end(x)
    expected = front_end.scale * np.log(np.float32(front_end.floor))
    torch.testing.assert_close(features, torch.full_like(features, expected))
    features.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()
    # a training set of silence alone has no variance
    front_end.normalize_(features[0, 0].detach(), torch.zeros(front_end.features))
    features, _ = front_end(x)
    assert bool((features == 0.0).all())


@pytest.mark.parametrize("kind", FRONT_ENDS)
def test_a_tone_is_where_it_should_be(kind: str) -> None:
    front_end = FRONT_ENDS[kind]()
    tone = torch.sin(2.0 * torch.pi * 1000.0 * torch.arange(4_000) / 8000).unsqueeze(0)
    features, _ = front_end(tone)
    if isinstance(front_end, LogMagnitudeSTFT):
        assert bool((features[0, 3:].argmax(dim=1) == 32).all())
        # half of the window's sum, 128
        assert 10.0 ** (features[0, 3:, 32] / 20.0) == pytest.approx(64.0, rel=1e-3)
    else:
        wanted = front_end.bands[32].argmax()
        assert bool((features[0, 3:].argmax(dim=1) == wanted).all())


@pytest.mark.parametrize("kind", FRONT_ENDS)
def test_a_checkpoint_holds_what_was_measured_and_nothing_that_follows(kind: str) -> None:
    front_end = FRONT_ENDS[kind]()
    assert list(front_end.state_dict()) == ["mean", "std"]
    assert not list(front_end.parameters())
    front_end.normalize_(torch.rand(front_end.features), torch.rand(front_end.features))
    again = FRONT_ENDS[kind]()
    again.load_state_dict(front_end.state_dict())
    x = torch.rand(1, 500)
    assert torch.equal(again(x)[0], front_end(x)[0])
    assert f"hop_length={front_end.hop_length}" in repr(front_end)


def test_nothing_in_is_nothing_out() -> None:
    front_end = LogMel()
    features, state = front_end(torch.zeros(3, 0))
    assert (features.shape, state.shape) == ((3, 0, 40), (3, 120))
    features, state = front_end(torch.zeros(0, 800))
    assert (features.shape, state.shape) == ((0, 10, 40), (0, 120))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("log_mel", {"hop_length": 0}, "expected 1 <= hop_length <= win_length <= n_fft, got 0, 200 and 256"),
        ("log_mel", {"hop_length": 201}, "got 201, 200 and 256"),
        ("log_magnitude_stft", {"win_length": 257}, "got 128, 257 and 256"),
        ("log_magnitude_stft", {"sample_rate": 0}, "sample_rate and floor must be positive, got 0 and 1e-05"),
        ("log_magnitude_stft", {"floor": 0.0}, "must be positive, got 8000 and 0.0"),
        ("log_mel", {"floor": float("nan")}, "must be positive, got 8000 and nan"),
        ("log_mel", {"bands": 0}, "expected at least 1 band and 0 <= low < high <= 4000 Hz, got 0, 20.0 and"),
        ("log_mel", {"low": -1.0}, "got 40, -1.0 and 4000"),
        ("log_mel", {"low": 300.0, "high": 300.0}, "got 40, 300.0 and 300"),
        ("log_mel", {"high": 4000.5}, "got 40, 20.0 and 4000.5"),
        (
            "log_mel",
            {"bands": 120},
            r"band \d+ of 120 holds no bin of a transform of 256 points at 8000 Hz: use fewer bands",
        ),
    ],
)
def test_what_is_out_of_range_is_named(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FRONT_ENDS[kind](**options)


def test_an_unknown_front_end_is_named() -> None:
    with pytest.raises(KeyError, match="no front end is called 'mfcc'; known: log_magnitude_stft, log_mel"):
        FRONT_ENDS["mfcc"]
