"""Every recipe trains, and the authors' recipes say what the authors did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from models import DigitClassifier, SequenceModel
from training.data import DATASETS, Digits, Split

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def load_noise(split: Split, _root: Path) -> Digits:
    """As many pixels as MNIST has, and no more images than a step needs."""
    pixels = np.random.default_rng(0).integers(256, size=(8, 28, 28), dtype=np.uint8)
    return Digits("mnist", split, pixels, np.arange(8), 255, {})


@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_takes_a_step(recipe: Path, train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DATASETS:
        monkeypatch.setitem(DATASETS, name, load_noise)
    content = yaml.safe_load(recipe.read_text())
    model = content["model"].get("init_args", content["model"])
    network = "classifier" if "classifier" in model else "network"
    small = [f"--model.{network}.hidden_size=6", "--data.batch_size=8"]  # as many as there are: one batch
    if network == "network":
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
    made = (
        DigitClassifier(**model["classifier"]) if "classifier" in model else SequenceModel(**model["network"])
    )
    options = model.get("classifier", model.get("network"))
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


def test_the_authors_recipes_are_the_authors() -> None:
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (RECIPES / "authors").iterdir()}
    expected = {
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
    assert len(expected) == 20
    assert found == expected
