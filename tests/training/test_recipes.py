"""Every recipe trains, and the authors' recipes say what the authors did."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from models import DigitClassifier, FrameModel, SequenceModel
from training.data import DATASETS, SPEECH, Digits, Segment, Speech, Split, Utterance
from training.data.phones import CLASSES, SCORED_AS

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def load_noise(split: Split, _root: Path) -> Digits:
    """As many pixels as MNIST has, and no more images than a step needs."""
    pixels = np.random.default_rng(0).integers(256, size=(8, 28, 28), dtype=np.uint8)
    return Digits("mnist", split, pixels, np.arange(8), 255, {})


def hear_noise(dataset: str, sample_rate: int, labels: tuple[str, ...], silence: str) -> Speech:
    """Utterances with the classes of a data set, and no more of them than a step needs."""
    generator = np.random.default_rng(0)
    utterances = []
    for number in range(8):
        samples = generator.uniform(-0.1, 0.1, sample_rate // 4 + number).astype(np.float32)
        middle, label = len(samples) // 2, labels[number]
        segments = (Segment(0, middle, label), Segment(middle, len(samples), silence))
        utterances.append(Utterance(str(number), "", samples, segments, label))
    scored = {label: SCORED_AS.get(label, label) for label in labels}
    return Speech(dataset, "train", sample_rate, labels, silence, scored, tuple(utterances), {})


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """All data sets, without their data."""
    for name in DATASETS:
        monkeypatch.setitem(DATASETS, name, load_noise)
    for name in SPEECH:

        def load(_split: Split, _root: Path, _options: Mapping[str, Any], name: str = name) -> Speech:
            if name == "fsdd":
                return hear_noise(name, 8_000, (*"0123456789", "silence"), "silence")
            return hear_noise(name, 16_000, tuple(CLASSES), "sil")

        monkeypatch.setitem(SPEECH, name, load)


@pytest.mark.usefixtures("noise")
@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_takes_a_step(recipe: Path, train: Any) -> None:
    content = yaml.safe_load(recipe.read_text())
    model = content["model"].get("init_args", content["model"])
    network = "classifier" if "classifier" in model else "network"
    small = [f"--model.{network}.hidden_size=6", "--data.batch_size=8"]  # as many as there are: one batch
    if "problem" in content["data"].get("init_args", {}):
        small += ["--data.length=8", "--data.steps=1"]
    one_step = ["max_epochs=1", "num_sanity_val_steps=0"]
    here = ["accelerator=cpu", "devices=1", "strategy=auto", "logger=false"]
    train("fit", "--config", recipe, *small, *(f"--trainer.{option}" for option in one_step + here))
    checkpoint = torch.load(f"runs/{recipe.stem}/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 1
    (optimizer,) = checkpoint["optimizer_states"]
    groups = optimizer["param_groups"]
    assert len(groups) == (2 if "orthogonal" in recipe.read_text() else 1)
    assert groups[-1].get("initial_lr", groups[-1]["lr"]) == pytest.approx(
        model.get("orthogonal_lr", model["optimizer"]["init_args"]["lr"])
    )
    moments = [state.get("square_avg", state.get("exp_avg_sq")) for state in optimizer["state"].values()]
    assert len(moments) == sum(len(group["params"]) for group in groups)
    assert all(bool(moment.any()) for moment in moments)  # every parameter has had a gradient
    assert all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())
    if "phases" in model:
        assert content["trainer"]["max_epochs"] == sum(phase["epochs"] for phase in model["phases"])


@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_builds_at_its_own_size(recipe: Path) -> None:
    model = yaml.safe_load(recipe.read_text())["model"]
    model = model.get("init_args", model)
    options = model.get("classifier", model.get("network"))
    kind = DigitClassifier if "classifier" in model else SequenceModel
    made = (FrameModel if "front_end" in options else kind)(**options)
    assert made.rnn.hidden_size == options["hidden_size"]


LSTM = {"lr": 0.001, "alpha": 0.9}
NONE: dict[str, Any] = {}
# task, cell, hidden sizes, filter, its options
AUTHORS_LSTMS = [
    ("mnist", "lstm", (128, 256), "identity", NONE),
    ("mnist", "momentum-lstm", (128, 256), "momentum", {"mu": 0.6, "epsilon": 0.6}),
    ("mnist", "adam-lstm", (256,), "adam", {"mu": 0.6, "epsilon": 0.6, "beta": 0.1}),
    ("mnist", "rmsprop-lstm", (256,), "rmsprop", {"epsilon": 0.6, "beta": 0.9}),
    ("mnist", "nesterov-lstm", (256,), "nesterov", {"epsilon": 1.0, "restart": 2}),
    ("pmnist", "lstm", (128, 256), "identity", NONE),
    ("pmnist", "momentum-lstm", (128, 256), "momentum", {"mu": 0.6, "epsilon": 1.0}),
    ("pmnist", "adam-lstm", (256,), "adam", {"mu": 0.6, "epsilon": 1.0, "beta": 0.01}),
    ("pmnist", "rmsprop-lstm", (256,), "rmsprop", {"epsilon": 1.0, "beta": 0.01}),
    ("pmnist", "nesterov-lstm", (256,), "nesterov", {"epsilon": 0.9, "restart": 40}),
]
# hidden size, mu, epsilon, lr, lr_orth, K
AUTHORS_DTRIVS = [
    (170, 0.6, 0.9, 7e-4, 2e-4, 1),
    (360, 0.3, 0.3, 7e-4, 5e-5, None),
    (512, 0.3, 0.3, 3e-4, 7e-5, None),
]
# cell, hidden sizes, filter, its options
AUTHORS_TIMIT_LSTMS = [
    ("lstm", (84, 120, 158), "identity", NONE),
    ("momentum-lstm", (84, 120, 158), "momentum", {"mu": 0.3, "epsilon": 0.1}),
    ("adam-lstm", (158,), "adam", {"mu": 0.3, "epsilon": 0.1, "beta": 0.999}),
    ("rmsprop-lstm", (158,), "rmsprop", {"epsilon": 0.1, "beta": 0.999}),
    ("nesterov-lstm", (158,), "nesterov", {"epsilon": 0.1, "restart": 2}),
]
AUTHORS_TIMIT_DTRIVS = [
    ("dtriv", (224, 322), "identity", NONE),
    ("momentum-dtriv", (224, 322), "momentum", {"mu": 0.3, "epsilon": 0.1}),
]


def authors() -> dict[str, dict[str, Any]]:
    """The table of the authors' hyperparameters, as the recipes' `model`."""
    table: dict[str, dict[str, Any]] = {}
    for task, cell, sizes, rule, options in AUTHORS_LSTMS:
        for size in sizes:
            classifier = {"hidden_size": size, "filter": rule, "initialization": "authors"}
            classifier |= {"filter_options": options} if options else {}
            classifier |= {"permutation": 0} if task == "pmnist" else {}
            table[f"{task}-{cell}-{size}"] = {"classifier": classifier, "optimizer": LSTM}
    for size, mu, epsilon, lr, lr_orth, k in AUTHORS_DTRIVS:
        plain = {"hidden_size": size, "recurrence": "orthogonal", "bias": False, "permutation": 0}
        options = {"mu": mu, "epsilon": epsilon}
        for cell, rule in (
            ("dtriv", {"filter": "identity"}),
            ("momentum-dtriv", {"filter": "momentum", "filter_options": options}),
        ):
            table[f"pmnist-{cell}-{size}"] = {
                "classifier": plain | rule,
                "optimizer": {"lr": lr},
                "orthogonal_lr": lr_orth,
                "rebase_every": k,
            }
    return table


def authors_of_timit() -> dict[str, dict[str, Any]]:
    """Their recipes for TIMIT, by name."""
    lstm = {"initialization": "authors-timit"}, {}, 1e-4, 32
    dtriv = (
        {"recurrence": "orthogonal", "bias": False},
        {"orthogonal_lr": 2e-4, "rebase_every": None},
        1e-3,
        128,
    )
    table = {}
    for cells, (more, orthogonal, lr, batch_size) in (
        (AUTHORS_TIMIT_LSTMS, lstm),
        (AUTHORS_TIMIT_DTRIVS, dtriv),
    ):
        for cell, sizes, rule, options in cells:
            for size in sizes:
                network = {"output_size": 129, "front_end": "log_magnitude_stft", "hidden_size": size}
                network |= {"filter": rule, **({"filter_options": options} if options else {}), **more}
                optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": lr}}
                data = {"dataset": "timit", "sample_rate": 8000, "batch_size": batch_size}
                table[f"timit-{cell}-{size}"] = {
                    "seed_everything": 0,
                    "trainer": {"max_epochs": 700, "gradient_clip_val": 1.0},
                    "model": {
                        "class_path": "training.frames.PredictionTask",
                        "init_args": {"network": network, "optimizer": optimizer, **orthogonal},
                    },
                    "data": {"class_path": "training.speech.SpeechData", "init_args": data},
                }
    return table


def test_the_authors_recipes_are_the_authors() -> None:
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (RECIPES / "authors").iterdir()}
    expected = authors_of_timit()
    assert len(expected) == 13
    expected |= {
        name: {
            "seed_everything": 0,
            "trainer": {"max_epochs": 150, "gradient_clip_val": 1.0},
            "model": model
            | {
                "optimizer": {"class_path": "torch.optim.RMSprop", "init_args": model["optimizer"]},
                "along_the_way": 0.0,
            },
            "data": {"dataset": "mnist", "batch_size": 128},
        }
        for name, model in authors().items()
    }
    assert len(expected) == 33
    assert found == expected
