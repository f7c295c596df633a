"""The curriculum's arithmetic."""

from typing import Any

import pytest

from training.phases import Curriculum, Phase

PHASES = [Phase(2, size=14), Phase(3, lr_scale=2.0, schedule="one-cycle", warmup=0.5)]


def test_an_epoch_lies_in_its_phase() -> None:
    curriculum = Curriculum(PHASES)
    assert curriculum.epochs == 5
    assert curriculum.at(0) == (PHASES[0], 0)
    assert curriculum.at(1) == (PHASES[0], 1)
    assert curriculum.at(2) == (PHASES[1], 0)
    assert curriculum.at(4) == (PHASES[1], 2)
    assert curriculum.at(9) == (PHASES[1], 3)


def test_learning_rate_is_constant_or_rises_and_falls() -> None:
    curriculum = Curriculum(PHASES, steps_per_epoch=100)
    rates = [curriculum.learning_rate(step) for step in range(500)]
    assert rates[:200] == [1.0] * 200
    top = max(rates[200:])
    assert top == pytest.approx(2.0, abs=0.02)
    peak = rates.index(top)
    assert peak == pytest.approx(350, abs=1)
    assert rates[200:peak] == sorted(rates[200:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.0 < rates[-1] < 0.01
    assert 0.0 < rates[200] < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "at least 1 epoch, got 0"),
        ({"epochs": 1, "size": 0}, "image size must be at least 1, got 0"),
        ({"epochs": 1, "lr_scale": 0.0}, "lr_scale must be positive"),
        ({"epochs": 1, "warmup": 1.0}, "warmup must be in"),
    ],
)
def test_a_wrong_phase_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phase(**options)
