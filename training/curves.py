"""`python -m training curves RUN [RUN ...] --out NAME`: the losses of runs as a table and a plot."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from training.plots import COLOURS, STYLE, write_svg

TRAINING, VALIDATION, BASELINE = "train/loss", "validation/loss", "baseline"

Curve = Mapping[int, float]  # optimizer step -> value


class CurvesError(Exception):
    """There is nothing to draw; the message says where it was looked for."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the process's exit status: 0 done, 1 refused."""
    parser = argparse.ArgumentParser(
        prog="python -m training curves",
        description="Draw the losses that runs logged: NAME.csv and NAME.svg.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder: runs/RECIPE")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="NAME", help="where to write, such as docs/results/copying"
    )
    options = parser.parse_args(arguments)
    try:
        runs = {run.resolve().name: read_run(run) for run in options.runs}
        if len(runs) < len(options.runs):
            raise CurvesError("two runs have folders of one name: they could not be told apart in the plot")
    except CurvesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table, plot = (Path(f"{options.out}.{suffix}") for suffix in ("csv", "svg"))
    table.parent.mkdir(parents=True, exist_ok=True)
    write_table(runs, table)
    write_svg(draw(runs), plot)
    print(f"{table}\n{plot}")
    return 0


def read_run(run: Path) -> Mapping[str, Curve]:
    """The losses and the baseline that a run logged, as far as it logged them.

    A resumed run has a log for each time it was started. What a later one says from its first step on takes
    the place of what the earlier ones say of those steps. Logs without training, of `validate` and `test`,
    do not count.

    Args:
        run: the run's folder.

    Raises:
        CurvesError: there is no log of a training.
    """
    curves: dict[str, dict[int, float]] = {}
    logs = []
    for folder in {path.parent for path in run.rglob("events.out.tfevents.*")}:
        log = EventAccumulator(str(folder), size_guidance={"scalars": 0})  # 0: all of them
        log.Reload()
        tags = {TRAINING, VALIDATION, BASELINE} & set(log.Tags()["scalars"])
        scalars = {tag: log.Scalars(tag) for tag in tags}
        if TRAINING in scalars:
            logs.append((min(events[0].wall_time for events in scalars.values()), scalars))
    for _, scalars in sorted(logs, key=lambda log: log[0]):
        first = min(events[0].step for events in scalars.values())
        for tag in curves:
            curves[tag] = {step: value for step, value in curves[tag].items() if step < first}
        for tag, events in scalars.items():
            curves.setdefault(tag, {}).update({event.step: event.value for event in events})
    if not logs:
        raise CurvesError(
            f"{run}: found no TensorBoard log with {TRAINING}; expected the folder of a run of "
            "`python -m training fit`, such as runs/copying-lstm"
        )
    return curves


def write_table(runs: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    """A CSV file with a line for every number: run, curve, step, value."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "curve", "step", "value"])
        for run, curves in runs.items():
            for name in sorted(curves):
                writer.writerows([run, name, step, f"{value:.6g}"] for step, value in curves[name].items())


def draw(runs: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Losses over optimizer steps: validation in strong lines, training behind them in faint ones."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4))
        axes = figure.add_subplot()
        for index, (run, curves) in enumerate(runs.items()):
            colour = COLOURS[index % len(COLOURS)]
            for name, alpha, width in ((TRAINING, 0.3, 0.8), (VALIDATION, 1.0, 1.6)):
                curve = curves.get(name, {})
                label = run if name == VALIDATION else None
                steps, losses = list(curve), list(curve.values())
                axes.plot(steps, losses, color=colour, alpha=alpha, linewidth=width, label=label)
        baselines = {value for curves in runs.values() for value in curves.get(BASELINE, {}).values()}
        for index, value in enumerate(sorted(baselines)):
            label = "without memory" if index == 0 else None
            axes.axhline(value, color="0.3", linestyle="--", linewidth=1.0, label=label)
        axes.set(xlabel="optimizer step", ylabel="loss", yscale="log")
        axes.legend()
    return figure
