"""The training benchmark's table, numbers and plot."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from benchmarks.cells import BASELINE, STEPWISE, Size
from training.plots import STYLE, write_svg

Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Target:
    """At most so many times torch.nn.LSTM's time, and step by step at least so many times as long."""

    most: float | None = None
    least: float | None = None
    least_at: int | None = None  # hidden units that `least` is for; None for all


# on two cores of a CPU
TARGETS = {
    "MomentumLSTM": Target(1.05, 3.0, 128),
    "NesterovLSTM": Target(1.05, 3.0, 128),
    "AdamLSTM": Target(1.5),
    "RMSPropLSTM": Target(1.5),
    **dict.fromkeys(
        ("DTRIV", "MomentumDTRIV", "NesterovDTRIV", "AdamDTRIV", "RMSPropDTRIV"), Target(least=2.0)
    ),
}


@dataclass
class Measurements:
    """Everything that was measured.

    Attributes:
        machine: what on.
        rounds: how often.
        seconds: size -> contestant -> seconds of each round.
        memory: size -> contestant -> bytes at the peak of a step.
        product_rate: size -> floating-point operations a second of a large matrix product at that time.
        growth: as `seconds`, for the curves over time steps and batch.
    """

    machine: str
    rounds: int
    seconds: dict[Size, Seconds] = field(default_factory=dict)
    memory: dict[Size, dict[str, float]] = field(default_factory=dict)
    product_rate: dict[Size, float] = field(default_factory=dict)
    growth: dict[Size, Seconds] = field(default_factory=dict)


def spread(numerator: list[float], denominator: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratios round by round."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high


def write_report(result: Measurements, folder: Path, device: torch.device) -> None:
    """Write training-speed.md, .csv and .svg into `folder`, with a suffix for another device than the CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "training-speed" if device.type == "cpu" else f"training-speed-{device.type}"
    _write_numbers(result, folder / f"{stem}.csv")
    _draw(result, folder / f"{stem}.svg")
    command = "python -m benchmarks.training" + ("" if device.type == "cpu" else f" --device {device}")
    lines = [
        "# How fast the cells train",
        "",
        f"Made by `{command}`. {result.machine}.",
        "",
        "A training step is forward, backward and the optimizer's step, loss on the last hidden state.",
        f"All take turns in one process, {result.rounds} rounds in random order after one to warm up.",
        "Ratios are within a round: median (lower to upper quartile). *Step by step* is the authors' way:",
        "the reference cell (`models.unroll`) called T times with autograd. MB: a step's memory at its peak.",
        "",
    ]
    for size, seconds in result.seconds.items():
        targets = TARGETS if device.type == "cpu" else {}
        lines += [f"## {size}", "", *_table(size, seconds, result, targets), ""]
    lines += [
        "## Growth",
        "",
        f"![Seconds of a training step over time steps and batch]({stem}.svg)",
        "",
        *_growth_table(result.growth),
        "",
        f"All numbers: [{stem}.csv]({stem}.csv).",
        "",
    ]
    (folder / f"{stem}.md").write_text("\n".join(lines))


def _table(
    size: Size, seconds: Seconds, result: Measurements, targets: Mapping[str, Target]
) -> Iterable[str]:
    baseline, memory = seconds[BASELINE], result.memory[size]
    yield (
        "| cell | ms a step | times torch.nn.LSTM | target | step by step takes times as long | target "
        "| MB | MB step by step |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, values in seconds.items():
        if name.endswith(STEPWISE):
            continue
        target, faster = targets.get(name, Target()), spread(values, baseline)
        stepwise = seconds.get(name + STEPWISE)
        slower = spread(stepwise, values) if stepwise else None
        most = target.most and f"at most {target.most:g}: {_verdict(faster[1] <= target.most)}"
        asked = target.least if target.least_at in (None, size.hidden) else None
        least = asked and slower and f"at least {asked:g}: {_verdict(slower[1] >= asked)}"
        cells = [
            name,
            f"{1e3 * statistics.median(values):.0f}",
            _ratio(faster),
            most or "",
            _ratio(slower) if slower else "",
            least or "",
            f"{memory[name] / 1e6:.0f}",
            f"{memory[name + STEPWISE] / 1e6:.0f}" if stepwise else "",
        ]
        yield f"| {' | '.join(cells)} |"
    product = result.product_rate[size]
    achieved = []
    for name in (BASELINE, "MomentumLSTM"):
        rate = size.lstm_operations() / statistics.median(seconds[name])
        achieved.append(f"{name} {rate / 1e9:.0f} ({rate / product:.0%})")
    yield ""
    yield f"A large matrix product reached {product / 1e9:.0f} GFLOP/s in the same run. Matrix products"
    yield f"alone, all other work as time lost: {', '.join(achieved)}."


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _ratio(quartiles: tuple[float, float, float]) -> str:
    low, middle, high = quartiles
    return f"**{middle:.2f}** ({low:.2f} to {high:.2f})"


def _growth_table(growth: dict[Size, Seconds]) -> Iterable[str]:
    names = list(next(iter(growth.values())))
    yield f"| size | {' | '.join(names)} |"
    yield f"| --- | {' | '.join('---:' for _ in names)} |"
    for size, seconds in growth.items():
        medians = [1e3 * statistics.median(seconds[name]) for name in names]
        yield f"| {size} | {' | '.join(f'{median:.0f} ms' for median in medians)} |"


def _write_numbers(result: Measurements, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time", "batch", "inputs", "hidden", "cell", "round", "seconds"])
        for size, seconds in [*result.seconds.items(), *result.growth.items()]:
            for name, values in seconds.items():
                for number, value in enumerate(values, start=1):
                    row = [size.time, size.batch, size.inputs, size.hidden, name, number, f"{value:.6f}"]
                    writer.writerow(row)


def _draw(result: Measurements, path: Path) -> None:
    with mpl.rc_context(STYLE):
        write_svg(_figure(result), path)


def _figure(result: Measurements) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    batches = {size.batch for size in result.growth}
    most_common = max(batches, key=lambda b: sum(size.batch == b for size in result.growth))
    groups = (
        ("time steps", [size for size in result.growth if size.batch == most_common], "time"),
        ("batch", [size for size in result.growth if size.batch != most_common], "batch"),
    )
    for axis, (label, sizes, attribute) in zip(axes, groups, strict=True):
        for name in next(iter(result.growth.values())):
            medians = [statistics.median(result.growth[size][name]) for size in sizes]
            axis.loglog([getattr(size, attribute) for size in sizes], medians, marker="o", label=name)
        axis.set(xlabel=label, ylabel="seconds a training step")
    axes[0].legend()
    return figure
