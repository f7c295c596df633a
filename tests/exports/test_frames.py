"""The graph of the speech job: against PyTorch, in any chunks of any rows, and exported for real."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exports.builder import GraphBuilder
from exports.card import Card
from exports.cli import main
from exports.errors import ExportError
from exports.exactness import measure_exactness
from exports.frames import HISTORY, PENDING, FramesSubject, add_front_end, frames_graph
from exports.measure import measure_frames
from exports.session import Floats, FramesRunner, States
from exports.store import versions
from exports.verification import verify
from models import FrameModel, FrontEnd
from training.data import Segment, Speech, Utterance, load_speech
from training.data.phones import CLASSES

NARROW = {"win_length": 80, "hop_length": 80, "n_fft": 128, "bands": 12}  # windows that do not overlap
MEL = {"win_length": 50, "hop_length": 20, "n_fft": 64, "bands": 6, "low": 0.0}
ODD = {"win_length": 101, "hop_length": 33, "n_fft": 127}
STFT: dict[str, Any] = {"front_end": "log_magnitude_stft"}
NETWORKS: list[dict[str, Any]] = [
    {},
    STFT,
    {"front_end_options": {"sample_rate": 16_000, "win_length": 400, "hop_length": 160, "n_fft": 512}},
    STFT | {"front_end_options": ODD},
    STFT | {"front_end_options": {"win_length": 3, "hop_length": 1, "n_fft": 3}},
    STFT | {"front_end_options": {"win_length": 1, "hop_length": 1, "n_fft": 1}},
    {"front_end_options": NARROW},
    {"front_end_options": MEL | {"bands": 1}},
    {"front_end_options": MEL, "num_layers": 2, "bias": False},
    {"front_end_options": MEL, "filter": "identity", "recurrence": "orthogonal", "bias": False},
    {"front_end_options": MEL, "recurrence": "gru", "filter_options": {"mu": 0.9, "learnable": True}},
    {"front_end_options": MEL, "filter": "nesterov", "filter_options": {"restart": 5}},
    STFT | {"front_end_options": ODD, "filter": "adam", "num_layers": 2},
    {"front_end_options": MEL, "filter": "rmsprop", "recurrence": "orthogonal"},
]
LONG = {"front_end_options": MEL, "filter_options": {"mu": 0.97, "epsilon": 0.1}}
RNN = {"front_end_options": MEL, "recurrence": "rnn_tanh"}
CHECKSUM = "0" * 64


def build(options: dict[str, Any], output_size: int = 5) -> FrameModel:
    """A network whose features are normalised, by more or less what they should be."""
    torch.manual_seed(0)
    network = FrameModel(output_size, **({"hidden_size": 7} | options)).eval()
    front_end = network.front_end
    spread = front_end.scale * (1.0 + torch.rand(front_end.features))
    front_end.normalize_(-3.0 * front_end.scale * torch.rand(front_end.features), spread)
    return network


def subject(network: FrameModel) -> FramesSubject:
    return FramesSubject(network, frames_graph(network, "frames", "1"), network.front_end.hop_length)


def sound(one: FramesSubject, batch: int, size: int) -> Floats:
    x: Floats = one.draw(batch, size, torch.Generator().manual_seed(size)).numpy()
    return x


@pytest.mark.parametrize("options", [*NETWORKS, LONG, RNN], ids=str)
def test_the_graph_is_the_network(options: dict[str, Any]) -> None:
    one = subject(build(options))
    verification = verify(one, 40 * one.unit + one.unit // 2)
    assert verification.max_difference <= verification.tolerance == 1e-5
    assert len(verification.cases) == 24


@pytest.mark.parametrize("options", [*NETWORKS, LONG], ids=str)
def test_what_holds_bit_for_bit(options: dict[str, Any]) -> None:
    one = subject(build(options))
    exactness = measure_exactness(one.runner(), sound(one, 8, 60 * one.unit + one.unit // 2), one.unit)
    assert (exactness.batched, exactness.padded) == ("bitwise", "bitwise")
    assert exactness.streamed == ("rounding" if options is LONG else "bitwise")
    assert (0.0 < exactness.streamed_difference < 1e-6) == (options is LONG)


@functools.cache
def subject_of(number: int) -> tuple[FramesSubject, FramesRunner]:
    one = subject(build([*NETWORKS, LONG][number]))
    return one, one.runner()


def heard(one: FramesSubject, runner: FramesRunner, waveform: Floats) -> tuple[Floats, States]:
    """One row alone and whole: its probabilities, and its states."""
    probabilities, counts, states = runner.run(waveform[None])
    assert counts.tolist() == [len(waveform) // one.unit]
    return probabilities[0, : counts[0]], {name: value[0] for name, value in states.items()}


@settings(max_examples=120)
@given(number=st.integers(0, len(NETWORKS)), batch=st.integers(1, 4), data=st.data())
def test_rows_that_go_on_at_different_speeds_are_each_what_they_are_alone(
    number: int, batch: int, data: st.DataObject
) -> None:
    one, runner = subject_of(number)
    hop = one.unit
    size = st.one_of(st.sampled_from([0, 1, hop - 1, hop]), st.integers(0, 5 * hop))
    # how many samples each row gets in each call
    calls = data.draw(st.lists(st.lists(size, min_size=batch, max_size=batch), min_size=1, max_size=6))
    totals = [sum(each) for each in zip(*calls, strict=True)]
    x = sound(one, batch, max(1, *totals))
    states, said = runner.start(batch), [[] for _ in range(batch)]
    place = np.zeros(batch, int)
    for lengths in calls:
        # nothing may come of what lies past a row's length
        width = max(lengths) + data.draw(st.integers(0, 2 * hop))
        piece = np.full((batch, width), np.nan, np.float32)
        for row, length in enumerate(lengths):
            piece[row, :length] = x[row, place[row] : place[row] + length]
        result = runner.run(piece, lengths, states)
        states = result[2]
        place += lengths
        for row, (probabilities,) in enumerate(runner.rows(result, lengths)):
            said[row].append(probabilities)
        assert sum(map(len, said[0])) == place[0] // hop
    for row in range(batch):
        streamed = np.concatenate(said[row])
        whole, after = heard(one, runner, x[row, : totals[row]])
        if number < len(NETWORKS):
            assert np.array_equal(streamed, whole)
            assert all(np.array_equal(states[name][row], value) for name, value in after.items())
        else:  # the filter's value is carried
            np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-6)


def test_silence_and_the_loudest_there_is_have_probabilities() -> None:
    for options in NETWORKS[:2]:
        runner = subject(build(options)).runner()
        for waveform in (np.zeros((1, 2_000)), np.ones((1, 2_000)), np.full((1, 2_000), 1e-30)):
            probabilities, _, states = runner.run(waveform.astype(np.float32))
            np.testing.assert_allclose(probabilities.sum(axis=2), 1.0, rtol=0, atol=1e-6)
            assert all(np.isfinite(value).all() for value in states.values())


Parts = tuple[str, str, dict[str, str]]


def uncounted(graph: GraphBuilder, front_end: FrontEnd, waveform: str, parts: Parts) -> Parts:
    """No sample is ever pending."""
    del front_end, waveform
    features, counts, after = parts
    return features, counts, after | {PENDING: graph.op("Sub", PENDING, PENDING)}


def out_of_padding(graph: GraphBuilder, front_end: FrontEnd, waveform: str, parts: Parts) -> Parts:
    """Samples are carried from the end of the batch, not of the row."""
    features, counts, after = parts
    heard = graph.op("Concat", HISTORY, waveform, axis=1)
    ends = (graph.axes(number) for number in (1 - front_end.win_length, np.iinfo(np.int64).max, 1))
    return features, counts, after | {HISTORY: graph.op("Slice", heard, *ends)}


def one_too_few(graph: GraphBuilder, front_end: FrontEnd, waveform: str, parts: Parts) -> Parts:
    """The last frame does not count."""
    del front_end, waveform
    features, counts, after = parts
    zero, one = (graph.constant(number, np.int32) for number in (0, 1))
    return features, graph.op("Max", graph.op("Sub", counts, one), zero), after


def late(graph: GraphBuilder, front_end: FrontEnd, waveform: str, parts: Parts) -> Parts:
    """Each frame has the features of the one before."""
    del front_end, waveform
    features, counts, after = parts
    before = graph.slice_time(features, 0, 1), graph.slice_time(features, 0, -1)
    return graph.op("Concat", *before, axis=0), counts, after


@pytest.mark.parametrize("fault", [uncounted, out_of_padding, one_too_few, late])
def test_verification_finds_a_wrong_front_end(
    fault: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(graph: GraphBuilder, front_end: FrontEnd, waveform: str, lengths: str) -> Parts:
        return fault(graph, front_end, waveform, add_front_end(graph, front_end, waveform, lengths))

    monkeypatch.setattr("exports.frames.add_front_end", wrong)
    one = subject(build({}))
    with pytest.raises(ExportError, match="differs from PyTorch"):
        verify(one, 40 * one.unit + one.unit // 2)


def changed(front_end: FrontEnd, name: str, factor: float) -> None:
    value = getattr(front_end, name)
    if isinstance(value, torch.Tensor):
        value[..., 2] *= factor
    else:
        setattr(front_end, name, factor * value)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("mean", 1.01), ("std", 1.01), ("basis", 1.03), ("bands", 1.1), ("floor", 2.0), ("scale", 1.01)],
)
def test_verification_finds_a_wrong_number(name: str, factor: float) -> None:
    network = build({})
    one = subject(network)
    changed(network.front_end, name, factor)
    with pytest.raises(ExportError, match=r"differs from PyTorch by .* nothing was written"):
        verify(one, 40 * one.unit + one.unit // 2)


# --- accuracy


def recorded(network: FrameModel) -> Speech:
    """Utterances of noise, some of them with a class, and two classes that are scored as one."""
    hop, generator = network.front_end.hop_length, np.random.default_rng(0)
    utterances = []
    for number in range(9):
        loudness = 10.0 ** generator.uniform(-4.0, 0.0, 9).repeat(5 * hop)
        count = 37 * hop + 11 * number
        samples = (loudness[:count] * generator.uniform(-1.0, 1.0, count)).astype(np.float32)
        ends = [8 * hop + number, 25 * hop, len(samples)]
        bounds = zip([0, *ends], ends, generator.permutation(list("abcs"))[:3], strict=False)
        segments = tuple(Segment(start, end, str(label)) for start, end, label in bounds)
        utterances.append(
            Utterance(str(number), "", samples, segments, "abc"[number % 3] if number else None)
        )
    scored = {"a": "a", "b": "a", "c": "c", "d": "d", "s": "s"}
    return Speech("noise", "test", 8_000, tuple("abcds"), "s", scored, tuple(utterances), {})


def test_accuracy_is_counted_frame_by_frame_and_utterance_by_utterance() -> None:
    network = build({"front_end_options": MEL})
    with torch.no_grad():
        network.head.weight.mul_(20.0)
    speech = recorded(network)
    right, spoken, whole, one_of = [], [], [], {"b": "a"}
    for utterance in speech.utterances:
        logits, _ = network(torch.from_numpy(utterance.samples)[None])
        found = [speech.labels[index] for index in logits[0].argmax(dim=1)]
        wanted = utterance.frame_labels(network.front_end.hop_length)
        hits = [one_of.get(a, a) == one_of.get(b, b) for a, b in zip(found, wanted, strict=True)]
        right += hits
        spoken += [hit for hit, label in zip(hits, wanted, strict=True) if label != "s"]
        means = logits[0].softmax(dim=1).mean(dim=0)[:4]  # without silence
        whole += [speech.labels[int(means.argmax())] == utterance.label] if utterance.label else []
    metrics = measure_frames(subject(network).runner(), speech, network.front_end.hop_length)
    assert [(metric.name, metric.count) for metric in metrics] == [
        ("frame_accuracy", sum(len(each.samples) // 20 for each in speech.utterances)),
        ("spoken_frame_accuracy", len(spoken)),
        ("utterance_accuracy", 8),
    ]
    assert [metric.value for metric in metrics] == [np.mean(hits) for hits in (right, spoken, whole)]
    assert all(0.0 < metric.value < 1.0 for metric in metrics), metrics


# --- checkpoint in, artifact out


@pytest.fixture
def content() -> dict[str, Any]:
    """What training on the synthetic corpus saves."""
    options = {"sample_rate": 16_000, "win_length": 400, "hop_length": 160, "n_fft": 512}
    network = build({"front_end_options": options, "hidden_size": 8}, output_size=48)
    saved = {"config": network.config, "weights": network.state_dict()}
    provenance = {
        "recipe": {"model": {}},
        "seed": 1,
        "epochs": 3,
        "dataset": "synthetic-timit",
        "options": {},
        "sha256": {"train": CHECKSUM},
    }
    saved |= {"labels": list(CLASSES), "silence": "sil"}
    return {"frame_model": saved, "provenance": provenance}


@pytest.fixture
def export(tmp_path: Path, small_timit: Path) -> Callable[[dict[str, Any]], int]:
    """`python -m exports` of a checkpoint with this content; the exit status."""

    def run(content: dict[str, Any]) -> int:
        path = tmp_path / "best.ckpt"
        torch.save(content, path)
        store = ["--store", str(tmp_path / "store"), "--data", str(small_timit)]
        return main([str(path), "--name", "frames", *store])

    return run


Export = Callable[[dict[str, Any]], int]


def test_export_then_verify(
    content: dict[str, Any],
    export: Export,
    tmp_path: Path,
    small_timit: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export(content) == 0
    assert "bit for bit: batched bitwise, padded bitwise, streamed bitwise" in capsys.readouterr().out
    folder = tmp_path / "store" / "frames" / "1"
    card = Card.read(folder / "card.json")
    assert (card.name, card.version, card.task) == ("frames", "1", "frames")
    assert (card.sample_rate, card.hop_length, card.silence) == (16_000, 160, "sil")
    assert card.labels == list(CLASSES)
    assert card.image_shape is None
    assert card.description == (
        "Momentum LSTM (mu=0.6, epsilon=0.6), 8 units, hearing speech at 16000 Hz in frames of 160 samples"
    )
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*card.inputs, *card.outputs)] == [
        ("waveform", "float32", ["batch", "samples"]),
        ("lengths", "int32", ["batch"]),
        ("probabilities", "float32", ["batch", "frames", 48]),
        ("frames", "int32", ["batch"]),
    ]
    assert [(state.name, state.dtype, state.shape[1:]) for state in card.states] == [
        ("samples", "float32", [399]),
        ("pending", "int32", []),
        ("h", "float32", [1, 8]),
        ("c", "float32", [1, 8]),
        ("m_l0", "float32", [63, 41]),
    ]
    test = load_speech("synthetic-timit", "test", small_timit)
    # the figure is the network's own, not the graph's word for it
    network = FrameModel(**content["frame_model"]["config"])
    network.load_state_dict(content["frame_model"]["weights"])
    right = []
    for utterance in test.utterances:
        logits, _ = network(torch.from_numpy(utterance.samples)[None])
        found = [test.labels[index] for index in logits[0].argmax(dim=1)]
        wanted = utterance.frame_labels(160)
        right += [test.scored_as[a] == test.scored_as[b] for a, b in zip(found, wanted, strict=True)]
    metric, spoken = card.metrics  # a sentence has no class
    assert (metric.name, metric.dataset, metric.split) == ("frame_accuracy", "synthetic-timit", "test")
    assert spoken.name == "spoken_frame_accuracy"
    assert metric.count == len(right)
    assert abs(metric.value - np.mean(right)) * metric.count <= 1.0
    assert card.provenance.data_sha256 == {"train": CHECKSUM, **test.checksums}
    # the golden pair is the beginning of what was measured
    runner = FramesRunner(folder / "model.onnx", card)
    golden = np.array(card.golden.inputs["waveform"], np.float32)
    assert np.array_equal(golden[0], test.utterances[0].samples[: golden.shape[1]])
    probabilities, counts, _ = runner.run(golden, card.golden.inputs["lengths"])
    np.testing.assert_allclose(probabilities, card.golden.outputs["probabilities"], rtol=0, atol=1e-6)
    assert counts.tolist() == [20]
    places = ["--store", str(tmp_path / "store"), "--data", str(small_timit)]
    assert main(["verify", "frames", *places]) == 0
    assert "frame_accuracy on synthetic-timit test" in capsys.readouterr().out
    claims = json.loads((folder / "card.json").read_text())
    claims["metrics"][0]["value"] += 0.02
    (folder / "card.json").write_text(json.dumps(claims))
    assert main(["verify", "frames", *places]) == 1
    assert "NOT REPRODUCED" in capsys.readouterr().out


def test_a_long_memory_promises_less(content: dict[str, Any], export: Export, tmp_path: Path) -> None:
    saved = content["frame_model"]
    saved["config"] |= {"filter_options": {"mu": 0.97, "epsilon": 0.1}}
    assert export(content) == 0
    card = Card.read(tmp_path / "store" / "frames" / "1" / "card.json")
    assert (card.exactness.batched, card.exactness.streamed) == ("bitwise", "rounding")
    assert 0.0 < card.exactness.streamed_difference < 1e-6


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(key)


def replaced(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["frame_model"].update({key: value})


def rearranged(content: dict[str, Any]) -> None:
    content["frame_model"]["labels"].reverse()


def made_infinite(content: dict[str, Any]) -> None:
    content["frame_model"]["weights"]["front_end.std"][3] = torch.nan


DAMAGE: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (without("provenance"), "is no training checkpoint; expected a checkpoint written by"),
    (without("frame_model"), "holds neither a digit classifier nor a frame model; expected a checkpoint"),
    (lambda content: content.update(frame_model=None), "does not fit this version's FrameModel"),
    (lambda content: content.update(frame_model=[1]), "does not fit this version's FrameModel"),
    (lambda content: content.update(provenance=[1]), "does not fit this version's FrameModel"),
    (lambda content: content["provenance"].pop("epochs"), "does not fit .*no epochs.*; train it again"),
    (replaced("config", {"output_size": 48, "units": 3}), "does not fit .* 'units'"),
    (replaced("config", {"output_size": 48, "front_end": "mfcc"}), "no front end is called 'mfcc'"),
    (replaced("weights", {}), "does not fit this version's FrameModel .*Missing key"),
    (replaced("labels", ["a", "b"]), "2 labels for 48 outputs"),
    (rearranged, "the model's classes are not those of synthetic-timit today: train it again"),
    (replaced("silence", None), "the model's classes are not those of synthetic-timit today"),
    (made_infinite, "the graph differs from PyTorch by nan"),
    (lambda content: content["provenance"].update(dataset="timid"), "no data set is named 'timid'; known: "),
    (
        lambda content: content["frame_model"].pop("labels"),
        "predicts features, and has no classes to serve; expected a checkpoint of training.frames.FramesTask",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_what_cannot_be_exported_is_refused_in_words(
    damage: Callable[[dict[str, Any]], None],
    message: str,
    content: dict[str, Any],
    export: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(content)
    assert export(content) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error, re.DOTALL), error
    assert not versions(tmp_path / "store", "frames")
