"""`python -m exports` as its user runs it."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from exports.card import Card
from exports.cli import main
from exports.store import versions
from models import DigitClassifier
from training.data import load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_export_then_verify(
    checkpoint: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(checkpoint), "--name", "digits", "--store", str(store), "--data", str(tmp_path)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "largest difference from PyTorch" in printed
    card = Card.read(store / "digits" / "1" / "card.json")
    assert (card.name, card.version, card.task, card.image_shape) == ("digits", "1", "digits", (8, 8))
    assert card.verification.max_difference <= card.verification.tolerance == 1e-5
    (metric,) = card.metrics
    # the figure is the network's own, not the graph's word for it
    test = load("optdigits", "test", tmp_path)
    saved = torch.load(checkpoint, weights_only=True)["classifier"]
    network = DigitClassifier(**saved["config"])
    network.load_state_dict(saved["weights"])
    right = network(torch.from_numpy(test.pixels(slice(None)))).argmax(dim=1).numpy() == test.labels
    assert (metric.count, metric.value) == (len(test), right.mean())
    assert card.provenance.libraries["torch"] == importlib.metadata.version("torch")
    assert main(["verify", "digits", "--store", str(store), "--data", str(tmp_path)]) == 0
    assert ": reproduced" in capsys.readouterr().out
    assert sorted(entry.name for entry in (store / "digits").iterdir()) == ["1"]


def test_a_card_that_claims_too_much_is_found_out(
    checkpoint: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "--name", "digits", "--store", str(store), "--data", str(tmp_path)]) == 0
    path = store / "digits" / "1" / "card.json"
    card = json.loads(path.read_text())
    card["metrics"][0]["value"] += 0.02
    path.write_text(json.dumps(card))
    assert main(["verify", "digits", "--store", str(store), "--data", str(tmp_path)]) == 1
    assert "NOT REPRODUCED" in capsys.readouterr().out


def test_versions_count_up_and_are_never_overwritten(
    checkpoint: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(checkpoint), "--name", "digits", "--store", str(store), "--data", str(tmp_path)]
    assert main(arguments) == 0
    assert main([*arguments, "--version", "9"]) == 0
    before = (store / "digits" / "9" / "card.json").read_bytes()
    assert main([*arguments, "--version", "9"]) == 1
    assert "never overwritten: leave out --version to get version 10" in capsys.readouterr().err
    assert (store / "digits" / "9" / "card.json").read_bytes() == before
    assert main(arguments) == 0
    assert versions(store, "digits") == [1, 9, 10]


def test_a_tampered_graph_is_named(
    checkpoint: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), "--name", "digits", "--store", str(store), "--data", str(tmp_path)]) == 0
    with (store / "digits" / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert main(["verify", "digits", "--store", str(store), "--data", str(tmp_path)]) == 1
    assert "is not the file that its card describes" in capsys.readouterr().err


class Bomb:
    """What a hostile checkpoint would hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_unreadable_checkpoints_are_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage, empty, other, hostile = (tmp_path / name for name in ("garbage", "empty", "other", "hostile"))
    garbage.write_bytes(bytes(range(256)) * 16)
    empty.write_bytes(b"")
    torch.save({"state_dict": {}}, other)
    torch.save({"classifier": Bomb(tmp_path / "executed")}, hostile)
    for path in (tmp_path / "absent", garbage, empty, other, hostile, tmp_path):
        assert main([str(path), "--name", "digits", "--store", str(store), "--data", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {path}: ")
        assert "expected a checkpoint written by `python -m training fit`" in error
        assert "weights_only" not in error
    assert not (tmp_path / "executed").exists()
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best.ckpt"], "--name"),
        (["best.ckpt", "--name", "../digits"], "is no model name"),
        (["best.ckpt", "--name", "digits", "--version", "0"], "is no version"),
        (["verify"], "name"),
    ],
)
def test_wrong_arguments_end_with_status_2(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "exports", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_an_absent_model_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "digits", "--store", str(store)]) == 1
    assert "holds no digits (versions: none)" in capsys.readouterr().err


def test_verifying_needs_no_torch() -> None:
    code = (
        "import sys, exports.cli, exports.measure; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
