"""One speaker left out at a time: trained without him, tested on him, and a table of it."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.conftest import load_tones
from training import speakers
from training.data import SPEECH, Speech, Split

RECIPE: dict[str, Any] = {
    "model": {
        "class_path": "training.frames.FramesTask",
        "init_args": {"network": {"output_size": 4, "hidden_size": 8}},
    },
    "data": {
        "class_path": "training.speech.SpeechData",
        "init_args": {"dataset": "voices", "options": {"speakers": ["ann", "bob"]}, "batch_size": 8},
    },
}
Asked = list[tuple[Split, Mapping[str, Any]]]


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A data set of tones by two speakers, and what it was asked for. Bob, left out, does not speak clearly:
    nothing of his test can be got right.
    """
    asked: Asked = []

    def load(split: Split, root: Path, options: Mapping[str, Any]) -> Speech:
        asked.append((split, options))
        speech = load_tones(split, root, {})
        if split == "test" and options["leave_out"] == "bob":
            silent = [replace(each, samples=0.0 * each.samples) for each in speech.utterances]
            return replace(speech, utterances=tuple(silent))
        return speech

    monkeypatch.setitem(SPEECH, "voices", load)
    return asked


@pytest.mark.usefixtures("train")
def test_each_speaker_is_left_out_once(voices: Asked, tmp_path: Path) -> None:
    recipe = tmp_path / "voices.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    more = ["--trainer.max_epochs=12", "--model.optimizer.init_args.lr=0.03"]
    assert speakers.main(["--config", str(recipe), "--out", str(tmp_path / "a/b"), *quiet, *more]) == 0

    for run in ("ann", "bob"):
        assert (tmp_path / "runs" / f"voices-without-{run}" / "best.ckpt").is_file()
    assert {options["leave_out"] for _, options in voices} == {"ann", "bob"}
    assert all(options["speakers"] == ["ann", "bob"] for _, options in voices)
    with (tmp_path / "a/b.csv").open(newline="") as file:
        rows = {row["speaker"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["ann", "bob"]
    right = {name: float(row["utterance_accuracy"]) for name, row in rows.items()}
    assert right["ann"] >= 0.9
    assert right["bob"] <= 0.5
    mean = 50.0 * (right["ann"] + right["bob"])
    text = (tmp_path / "a/b.md").read_text()
    assert f"| **mean** | {mean:.1f} % |" in text
    command = f"python -m training speakers --config {recipe} {' '.join([*quiet, *more])}"
    assert f"Made by `{command}`" in text


def test_a_recipe_that_names_no_speakers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "nobody.yaml"
    recipe.write_text("data: {init_args: {dataset: fsdd}}")
    with pytest.raises(SystemExit, match="2"):
        speakers.main(["--config", str(recipe)])
    assert "data.options names no speakers" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        speakers.main(["--config", str(tmp_path / "absent.yaml")])
    assert "absent.yaml: cannot be read (No such file or directory)" in capsys.readouterr().err
