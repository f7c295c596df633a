"""Training on orthogonal matrices: their learning rate, their bases, and what goes with neither."""

from pathlib import Path
from typing import Any

import pytest
import torch

import training.task
from models import DigitClassifier
from training.digits import DigitsTask
from training.phases import Phase

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
SMALL = ["--model.network.hidden_size=6", "--data.length=2", "--data.batch_size=2", "--trainer.logger=false"]
BASE = "network.rnn.parametrizations.weight_hh_l0.0.base"
A = "network.rnn.parametrizations.weight_hh_l0.original"


def fit(train: Any, folder: Path, rebase_every: int | None, epochs: int, *more: str) -> dict[str, Any]:
    every = "null" if rebase_every is None else str(rebase_every)
    options = [f"--model.rebase_every={every}", "--data.steps=7", "--trainer.limit_val_batches=1"]
    where = [f"--trainer.default_root_dir={folder}", f"--trainer.max_epochs={epochs}"]
    train("fit", "--config", RECIPES / "copying-momentum-dtriv.yaml", *SMALL, *options, *where, *more)
    loaded: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return loaded


@pytest.mark.parametrize("rebase_every", [1, 5, None])
def test_resumed_is_never_stopped(rebase_every: int | None, train: Any, tmp_path: Path) -> None:
    whole = fit(train, tmp_path / "whole", rebase_every, 3)["state_dict"]
    stopped = fit(train, tmp_path / "stopped", rebase_every, 1)["state_dict"]
    last = f"--ckpt_path={tmp_path / 'stopped' / 'last.ckpt'}"
    resumed = fit(train, tmp_path / "stopped", rebase_every, 3, last)["state_dict"]
    assert not torch.equal(whole[A], stopped[A])
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    # a base moves if and only if it should, and the matrix stays orthogonal
    assert torch.equal(whole[BASE], stopped[BASE]) == (rebase_every is None)
    torch.testing.assert_close(whole[BASE] @ whole[BASE].T, torch.eye(6), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("every", "expected"), [(1, range(107)), (3, range(0, 107, 3)), (None, [0])])
def test_bases_move_when_it_is_time(
    every: int | None, expected: Any, train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[tuple[int, bool]] = []

    def record(task: Any, project: bool) -> None:
        moves.append((task.global_step, project))

    monkeypatch.setattr(training.task, "rebase_", record)
    fit(train, tmp_path, every, 1, "--data.steps=107")
    assert [step for step, _ in moves] == list(expected)
    # every hundredth move projects
    assert [step for step, project in moves if project] == ([99] if every == 1 else [])


def test_the_matrix_has_a_learning_rate_of_its_own(train: Any, tmp_path: Path) -> None:
    checkpoint = fit(train, tmp_path, None, 1, "--model.orthogonal_lr=0.5")
    rest, orthogonal = checkpoint["optimizer_states"][0]["param_groups"]
    assert (rest["lr"], orthogonal["lr"]) == (0.001, 0.5)
    assert len(orthogonal["params"]) == 1
    same = fit(train, tmp_path, None, 1, "--model.orthogonal_lr=null")
    assert [group["lr"] for group in same["optimizer_states"][0]["param_groups"]] == [0.001, 0.001]


def test_options_for_orthogonal_matrices_need_one(train: Any) -> None:
    for option in ("--model.orthogonal_lr=0.1", "--model.rebase_every=1"):
        with pytest.raises(
            ValueError, match="orthogonal_lr and rebase_every are for networks with orthogonal"
        ):
            train("fit", "--config", RECIPES / "copying-lstm.yaml", *SMALL, option)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orthogonal_lr": 0.0}, "orthogonal_lr must be positive, got 0"),
        ({"rebase_every": 0}, "rebase_every must be at least 1 step, or null for infinity, got 0"),
        ({"rebase_every": 1, "averaging": 0.9}, "averaging cannot go with rebase_every"),
        ({"phases": [Phase(1, stretch_memory=0.5)]}, "stretch_memory is for the gates of an LSTM"),
    ],
)
def test_what_does_not_go_is_refused(options: dict[str, Any], message: str) -> None:
    classifier = DigitClassifier(4, filter="identity", recurrence="orthogonal", bias=False)
    with pytest.raises(ValueError, match=message):
        DigitsTask(classifier, **options)


def test_matrices_with_bases_that_rest_can_be_averaged(train: Any, tmp_path: Path) -> None:
    network = ["--model.classifier.recurrence=orthogonal", "--model.classifier.bias=false"]
    small = [
        "--model.classifier.hidden_size=4",
        "--model.classifier.initialization=torch",
        "--trainer.max_epochs=1",
    ]
    short = ["--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1", "--trainer.logger=false"]
    train("fit", "--config", RECIPES / "optdigits.yaml", *network, *small, *short)
    saved = torch.load(tmp_path / "runs" / "optdigits" / "best.ckpt", weights_only=True)
    averaged = DigitClassifier(**saved["classifier"]["config"])
    averaged.load_state_dict(saved["classifier"]["weights"])
    own = saved["state_dict"]["classifier.rnn.parametrizations.weight_hh_l0.0.base"]
    assert torch.equal(averaged.rnn.parametrizations.weight_hh_l0[0].base, own)
    matrix = averaged.rnn.weight_hh_l0.detach()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4), rtol=0, atol=1e-5)
