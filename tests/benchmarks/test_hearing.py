"""The pictures of what the shipped model hears come from the test split and a recording."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import hearing
from exports.store import DEFAULT_STORE, read_card

RECORDING = Path(__file__).parents[2] / "docs" / "audio" / "digits.wav"


def test_the_pictures_show_the_card_s_figures(shared_datasets: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(shared_datasets), "--recording", str(RECORDING), "--out", str(tmp_path)]
    assert hearing.main(arguments) == 0
    with (tmp_path / "frames-confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    _, card = read_card(DEFAULT_STORE, "frames")
    for column, name in (("frames", "frame_accuracy"), ("utterances", "utterance_accuracy")):
        (metric,) = (metric for metric in card.metrics if metric.name == name)
        counts = {(row["said"], row["heard"]): int(row[column]) for row in rows}
        assert sum(counts.values()) == metric.count
        right = sum(count for (said, heard), count in counts.items() if said == heard)
        assert right / metric.count == pytest.approx(metric.value, abs=2e-4 if column == "frames" else 0.01)
    for picture in ("frames-confusion.svg", "frames-posteriorgram.svg"):
        assert (tmp_path / picture).read_text().startswith("<?xml")


def test_a_recording_of_another_rate_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "high.wav", np.zeros(1600, np.float32), 16_000)
    with pytest.raises(SystemExit):
        hearing.main(["--recording", str(tmp_path / "high.wav"), "--out", str(tmp_path)])
    assert "16000 Hz, the model hears 8000" in capsys.readouterr().err
