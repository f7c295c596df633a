"""Training on speech: frames classified, and frames predicted."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy

from exports.card import Card
from exports.checkpoint import read_checkpoint
from exports.cli import main as export
from exports.errors import ExportError
from models import FrameModel
from training.data import load_speech
from training.frames import FramesTask, PredictionTask
from training.speech import SpeechBatch

MEL = {"sample_rate": 8000, "win_length": 200, "hop_length": 80, "n_fft": 256, "bands": 12, "low": 100.0}


def recipe(task: str, network: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "trainer": {"max_epochs": 3, "logger": False, "gradient_clip_val": 1.0},
        "model": {
            "class_path": f"training.frames.{task}",
            "init_args": {
                "network": network,
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.02}},
                **options,
            },
        },
        "data": {
            "class_path": "training.speech.SpeechData",
            "init_args": {"dataset": "tones", "batch_size": 4},
        },
    }


NETWORK = {"output_size": 4, "front_end_options": MEL, "hidden_size": 12}
FRAMES = recipe("FramesTask", NETWORK, warmup=0.1)
# everything on that draws random numbers
RANDOM = recipe(
    "FramesTask",
    NETWORK | {"num_layers": 2, "dropout": 0.2},
    warmup=0.1,
    augmentation={"pause": 0.05},
    masking={"bands": 3, "frames": 3},
    label_smoothing=0.1,
)
STFT = {"output_size": 65, "front_end": "log_magnitude_stft", "hidden_size": 16}
STFT |= {"front_end_options": {"win_length": 128, "hop_length": 64, "n_fft": 128}}
PREDICTION = recipe("PredictionTask", STFT)
ORTHOGONAL = recipe(
    "PredictionTask",
    STFT | {"filter": "momentum", "recurrence": "orthogonal", "bias": False},
    orthogonal_lr=0.001,
)


def fit(train: Any, content: dict[str, Any], folder: Path, *options: str) -> dict[str, Any]:
    """Train, and return the last checkpoint."""
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    train("fit", "--config", path, f"--trainer.default_root_dir={folder}", *options)
    loaded: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return loaded


def measure(train: Any, folder: Path, *options: str) -> dict[str, float]:
    """What testing the best checkpoint says."""
    best = ["--ckpt_path", folder / "best.ckpt", f"--trainer.default_root_dir={folder}"]
    trainer = train("test", "--config", folder / "recipe.yaml", *best, *options)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def network_of(path: Path) -> FrameModel:
    saved = torch.load(path, weights_only=True)["frame_model"]
    network = FrameModel(**saved["config"])
    network.load_state_dict(saved["weights"])
    return network.eval()


@pytest.mark.usefixtures("tones")
def test_tones_are_learned_and_the_card_says_what_the_test_said(train: Any, tmp_path: Path) -> None:
    saved = fit(train, FRAMES, tmp_path / "run", "--trainer.max_epochs=12")
    assert saved["frame_model"]["labels"] == ["low", "middle", "high", "silence"]
    assert saved["frame_model"]["silence"] == "silence"
    assert saved["provenance"]["sha256"] == {"train": "0" * 64, "validation": "0" * 64}
    tested = measure(train, tmp_path / "run")
    assert tested["test/utterance_accuracy"] == 1.0
    assert tested["test/frame_accuracy"] > 0.9
    store = tmp_path / "store"
    assert export([str(tmp_path / "run" / "best.ckpt"), "--name", "tones", "--store", str(store)]) == 0
    card = Card.read(store / "tones" / "1" / "card.json")
    metrics = {metric.name: metric for metric in card.metrics}
    assert metrics["utterance_accuracy"].value == tested["test/utterance_accuracy"]
    frames = metrics["frame_accuracy"]
    assert frames.value == pytest.approx(tested["test/frame_accuracy"], abs=1.5 / frames.count)
    assert (frames.dataset, card.silence, card.sample_rate, card.hop_length) == ("tones", "silence", 8000, 80)
    # and so says who computes the loss by hand
    network, total, count = network_of(tmp_path / "run" / "best.ckpt"), 0.0, 0
    speech = load_speech("tones", "test", tmp_path)
    for utterance in speech.utterances:
        logits, _ = network(torch.from_numpy(utterance.samples)[None])
        wanted = torch.tensor([speech.labels.index(label) for label in utterance.frame_labels(80)])
        total += float(cross_entropy(logits[0], wanted, reduction="sum").detach())
        count += len(wanted)
    assert count == frames.count
    assert tested["test/loss"] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.usefixtures("tones")
def test_features_are_normalised_over_the_training_split(train: Any, tmp_path: Path) -> None:
    fit(train, FRAMES, tmp_path / "run", "--trainer.max_epochs=1")
    front_end = network_of(tmp_path / "run" / "last.ckpt").front_end
    samples = [torch.from_numpy(each.samples) for each in load_speech("tones", "train", tmp_path).utterances]
    features = torch.cat([front_end(each[None])[0][0] for each in samples])
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(12), rtol=0, atol=1e-4)
    torch.testing.assert_close(features.std(dim=0), torch.ones(12), rtol=0, atol=1e-3)


@pytest.mark.usefixtures("tones")
@pytest.mark.parametrize("content", [RANDOM, ORTHOGONAL], ids=["classified", "predicted"])
def test_cut_off_and_resumed_is_never_cut_off(
    content: dict[str, Any], train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(train, content, tmp_path / "whole")
    task = FramesTask if content is RANDOM else PredictionTask
    step = task.training_step

    def cut_off(self: Any, batch: SpeechBatch) -> torch.Tensor:
        if self.global_step == 8:  # in the middle of the second epoch
            raise InterruptedError
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(task, "training_step", cut_off)
        with pytest.raises(InterruptedError):
            fit(train, content, tmp_path / "cut")
    last = tmp_path / "cut" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 0
    resumed = fit(train, content, tmp_path / "cut", f"--ckpt_path={last}")
    assert resumed["epoch"] == whole["epoch"] == 2
    assert resumed["state_dict"].keys() == whole["state_dict"].keys()
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


@pytest.mark.usefixtures("tones")
def test_the_learning_rate_rises_and_falls_over_the_run(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def record(task: FramesTask, *_: Any) -> None:
        rates.append(task.trainer.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr(FramesTask, "on_train_batch_start", record)
    saved = fit(train, FRAMES, tmp_path / "run", "--model.warmup=0.5")
    assert len(rates) == 3 * 6
    assert rates[:9] == pytest.approx([0.02 * (step + 0.5) / 9 for step in range(9)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0.0 < rates[-1] < 0.001
    assert saved["lr_schedulers"]
    assert not fit(train, FRAMES, tmp_path / "level", "--model.warmup=null")["lr_schedulers"]


@pytest.mark.usefixtures("tones")
def test_padding_and_company_change_no_metric(train: Any, tmp_path: Path) -> None:
    for content, folder in ((FRAMES, tmp_path / "frames"), (PREDICTION, tmp_path / "prediction")):
        fit(train, content, folder, "--trainer.max_epochs=1")
        alone, together = (measure(train, folder, f"--data.batch_size={size}") for size in (1, 10))
        assert alone == pytest.approx(together, rel=1e-4)
        assert set(alone) >= {"test/loss"}


@pytest.mark.usefixtures("tones")
def test_frames_are_predicted_from_those_before(train: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    untrained = fit(train, PREDICTION, folder, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    before = measure(train, folder)["test/loss"]
    saved = fit(train, PREDICTION, folder, "--trainer.max_epochs=8", "--model.optimizer.lr=0.1")
    tested = measure(train, folder)
    assert tested["test/loss"] < 0.5 * before
    assert "labels" not in saved["frame_model"]
    assert untrained["frame_model"]["config"] == saved["frame_model"]["config"]
    network, errors = network_of(folder / "best.ckpt"), []
    assert not network.front_end.mean.any()  # nothing is normalised
    for utterance in load_speech("tones", "test", tmp_path).utterances:
        waveform = torch.from_numpy(utterance.samples)[None]
        features, _ = network.front_end(waveform)
        predicted, _ = network(waveform)
        errors.append((predicted[0, :-1] - features[0, 1:]).square().flatten())
    assert tested["test/loss"] == pytest.approx(float(torch.cat(errors).mean().detach()), rel=1e-4)
    with pytest.raises(ExportError, match="predicts features, and has no classes to serve"):
        read_checkpoint(folder / "best.ckpt")


@pytest.mark.usefixtures("tones")
@pytest.mark.parametrize(
    ("content", "option", "error", "message"),
    [
        (FRAMES, "--data.sample_rate=16000", ValueError, "is for 8000 Hz and the data have 16000: set data"),
        (PREDICTION, "--data.sample_rate=16000", ValueError, "is for 8000 Hz and the data have 16000"),
        (
            FRAMES,
            "--model.network.output_size=5",
            ValueError,
            "the network has 5 outputs and tones 4 classes: set network.output_size to 4",
        ),
        (FRAMES, "--trainer.max_epochs=-1", ValueError, "warmup is a share of the run: set trainer.max_ep"),
        (FRAMES, "--model.warmup=1.5", ValueError, r"warmup must be in \[0, 1\), got 1.5"),
        (FRAMES, "--model.orthogonal_lr=0.1", ValueError, "orthogonal_lr and rebase_every are for networks"),
    ],
)
def test_what_does_not_fit_is_refused(
    content: dict[str, Any], option: str, error: type[Exception], message: str, train: Any, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        fit(train, content, tmp_path / "run", option)


def test_other_data_are_refused(train: Any, tmp_path: Path) -> None:
    content = FRAMES | {
        "data": {"class_path": "training.digits.DigitsData", "init_args": {"dataset": "optdigits"}}
    }
    with pytest.raises(TypeError, match="expected the data of SpeechData, got those of DigitsData"):
        fit(train, content, tmp_path / "run")


def test_a_network_for_another_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="predicting 40 features takes as many outputs, got 3: set network"):
        PredictionTask(FrameModel(3))


def test_an_unknown_data_set_and_a_missing_corpus_are_one_clear_line(train: Any, tmp_path: Path) -> None:
    for dataset, message in (("tunes", "no data set is named 'tunes'"), ("timit", "licensed")):
        with pytest.raises(SystemExit, match=message):
            fit(train, FRAMES, tmp_path / "run", f"--data.dataset={dataset}", f"--data.data={tmp_path}")
