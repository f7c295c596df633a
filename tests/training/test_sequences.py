"""The problems that ask how long a network remembers, and training on them."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exports.checkpoint import read_checkpoint
from exports.errors import ExportError
from models import SequenceModel
from training.problems import Adding, Copying, Examples, Problem
from training.sequences import Onward, SequenceData

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
SHORT = ["--data.steps=3", "--data.batch_size=4", "--trainer.max_epochs=1", "--model.network.hidden_size=6"]


@pytest.mark.parametrize("length", [1, 2, 50])
def test_copying(length: int) -> None:
    symbols = set()
    for number in range(40):
        inputs, targets = Examples(Copying(length), 3, 0, 1)[number]
        assert inputs.shape == targets.shape == (length + 20,)
        assert inputs.dtype == targets.dtype == np.int64
        assert inputs[:10].tolist() == targets[-10:].tolist()
        assert inputs[10:].tolist() == [8] * (length - 1) + [9] + [8] * 10
        assert targets[:-10].tolist() == [8] * (length + 10)
        symbols |= set(inputs[:10].tolist())
    assert symbols == set(range(8))


@pytest.mark.parametrize("length", [2, 5, 50])
def test_adding(length: int) -> None:
    marked = set()
    for number in range(40 * length):
        inputs, target = Examples(Adding(length), 3, 0, 1)[number]
        assert inputs.shape == (length, 2)
        assert inputs.dtype == target.dtype == np.float32
        assert inputs[:, 0].min() >= 0.0
        assert inputs[:, 0].max() <= 1.0
        first, second = np.flatnonzero(inputs[:, 1])
        assert first < length // 2 <= second
        assert inputs[:, 1].sum() == 2.0
        assert target == inputs[first, 0] + inputs[second, 0]
        marked |= {first, second}
    assert marked == set(range(length))


def batch(problem: Problem, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    examples = Examples(problem, 0, 0, count)
    inputs, targets = zip(*(examples[number] for number in range(count)), strict=True)
    return torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets))


def test_baselines_are_the_losses_of_what_they_describe() -> None:
    copying = Copying(30)
    _, targets = batch(copying, 100)
    outputs = torch.full((100, 50, 9), -30.0)
    outputs[:, :40, 8] = 30.0  # sure of the blanks
    outputs[:, 40:, :8] = 0.0  # no idea of the symbols
    assert float(copying.loss(outputs, targets)) == pytest.approx(copying.baseline, rel=1e-4)
    assert copying.baseline == pytest.approx(10 * math.log(8) / 50)
    adding = Adding(30)
    _, sums = batch(adding, 4_000)
    assert float(adding.loss(torch.ones(4_000, 30, 1), sums)) == pytest.approx(adding.baseline, rel=0.05)
    assert float(adding.loss(sums.view(-1, 1, 1).expand(-1, 30, 1), sums)) == 0.0


def test_examples_depend_on_seed_stream_and_number_alone() -> None:
    def drawn(seed: int, stream: int, number: int) -> str:
        return hashlib.sha256(Examples(Adding(20), seed, stream, 1)[number][0].tobytes()).hexdigest()[:16]

    assert drawn(1, 2, 10**9) == drawn(1, 2, 10**9)
    assert (
        len({drawn(seed, stream, number) for seed in (0, 1) for stream in (0, 1) for number in (0, 1)}) == 8
    )
    # the same for ever
    assert drawn(0, 0, 0) == "5a7b4cb9406c86cc"


@pytest.mark.parametrize(("problem", "length", "least"), [(Copying, 0, 1), (Adding, 1, 2)])
def test_a_length_without_a_problem_is_refused(problem: type[Problem], length: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"length must be at least {least}, got {length}"):
        problem(length)


def test_the_stream_never_comes_again_and_is_shared_out() -> None:
    examples = Examples(Copying(1), 0, 0, 12)
    seen: list[int] = []
    for epoch in range(3):
        for rank in range(2):
            sampler = Onward(examples, 2, rank)
            sampler.set_epoch(epoch)
            numbers = list(sampler)
            assert len(numbers) == len(sampler) == 6
            seen += numbers
    assert sorted(seen) == list(range(36))


def test_held_out_examples_are_the_same_whatever_the_seed() -> None:
    def first(data: SequenceData, loader: str) -> torch.Tensor:
        return next(iter(getattr(data, loader)()))[0]

    one, other = (SequenceData("adding", length=6, batch_size=3, seed=seed) for seed in (1, 2))
    assert torch.equal(first(one, "val_dataloader"), first(other, "val_dataloader"))
    assert torch.equal(first(one, "test_dataloader"), first(other, "test_dataloader"))
    assert not torch.equal(first(one, "val_dataloader"), first(one, "test_dataloader"))
    assert not torch.equal(first(one, "train_dataloader"), first(other, "train_dataloader"))


def test_training_resumes_where_the_stream_was(train: Any, tmp_path: Path) -> None:
    def fit(folder: str, epochs: int, *more: str) -> dict[str, Any]:
        options = ["--data.length=3", f"--trainer.max_epochs={epochs}", "--trainer.logger=false"]
        where = f"--trainer.default_root_dir={tmp_path / folder}"
        train("fit", "--config", RECIPES / "adding-lstm.yaml", *SHORT, *options, where, *more)
        loaded: dict[str, Any] = torch.load(tmp_path / folder / "last.ckpt", weights_only=True)
        return loaded

    whole = fit("whole", 2)
    fit("stopped", 1)
    resumed = fit("stopped", 2, f"--ckpt_path={tmp_path / 'stopped' / 'last.ckpt'}")
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


def test_a_checkpoint_holds_the_network_and_is_no_digit_classifier(train: Any, tmp_path: Path) -> None:
    train("fit", "--config", RECIPES / "copying-momentum-lstm.yaml", *SHORT, "--data.length=4")
    path = tmp_path / "runs" / "copying-momentum-lstm" / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    assert saved["provenance"]["dataset"] == "copying"
    assert saved["provenance"]["recipe"]["data"]["init_args"]["length"] == 4
    network = SequenceModel(**saved["sequence_model"]["config"])
    network.load_state_dict(saved["sequence_model"]["weights"])
    with pytest.raises(ExportError, match="holds neither a digit classifier nor a frame model"):
        read_checkpoint(path)


def test_a_network_for_another_problem_is_refused(train: Any) -> None:
    with pytest.raises(
        ValueError, match="'adding' needs a network with input_size 2 and output_size 1, got 10"
    ):
        train("fit", "--config", RECIPES / "copying-lstm.yaml", *SHORT, "--data.problem=adding")


def test_other_data_are_refused(train: Any) -> None:
    data = ["--data.class_path=training.digits.DigitsData", "--data.dataset=optdigits"]
    with pytest.raises(TypeError, match="expected the data of SequenceData, got those of DigitsData"):
        train("fit", "--config", RECIPES / "copying-lstm.yaml", "--model.network.hidden_size=6", *data)
