"""`python -m training speakers`: how well a recipe does on speakers that it has not heard."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from training import cli

METRICS = ("utterance_accuracy", "frame_accuracy")


def main(arguments: Sequence[str]) -> int:
    """Train once for each speaker without him, and test on him; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training speakers",
        description="Leave one speaker out: train a recipe without each speaker in turn, test on him, and "
        "write NAME.csv and NAME.md. Other options, such as --trainer.max_epochs, go to the training.",
    )
    parser.add_argument(
        "--config", type=Path, default=Path("training/recipes/frames.yaml"), help="default: %(default)s"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/results/frames-speakers"),
        metavar="NAME",
        help="where to write (default: %(default)s)",
    )
    options, rest = parser.parse_known_args(arguments)
    try:
        data = yaml.safe_load(options.config.read_text())["data"]
        asked = data.get("init_args", data).get("options", {})
        speakers = asked["speakers"]
    except OSError as error:
        parser.error(f"{options.config}: cannot be read ({error.strerror})")
    except (KeyError, TypeError, AttributeError, yaml.YAMLError):
        parser.error(f"{options.config}: its data.options names no speakers")
    results = {}
    command = " ".join(["python -m training speakers --config", str(options.config), *without_data(rest)])
    for speaker in speakers:
        run = Path("runs") / f"{options.config.stem}-without-{speaker}"
        left_out = [*rest, f"--data.options={json.dumps(asked | {'leave_out': speaker})}"]
        left_out += [f"--trainer.default_root_dir={run}"]
        cli.main(["fit", "--config", str(options.config), *left_out])
        best = ["--ckpt_path", str(run / "best.ckpt")]
        trainer = cli.main(["test", "--config", str(options.config), *left_out, *best])
        results[speaker] = {name: float(trainer.callback_metrics[f"test/{name}"]) for name in METRICS}
        write(results, command, options.out)
    return 0


def without_data(arguments: Sequence[str]) -> list[str]:
    """Options without where the data are, which is everybody's own."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == "--data":
            skip = not skip
        elif not argument.startswith("--data="):
            kept.append(argument)
    return kept


def write(results: Mapping[str, Mapping[str, float]], command: str, out: Path) -> None:
    """Write the table, with a mean over the speakers so far, and the command that made it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{out}.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["speaker", *METRICS])
        table.writerows([speaker, *(values[name] for name in METRICS)] for speaker, values in results.items())
    lines = [
        "# Speakers that were not heard in training",
        "",
        f"Made by `{command}`: for each speaker a training",
        "without him, tested on all of his recordings.",
        "",
        "| speaker | utterances right | frames right |",
        "| --- | ---: | ---: |",
    ]
    means = {name: statistics.fmean(values[name] for values in results.values()) for name in METRICS}
    for speaker, values in [*results.items(), ("**mean**", means)]:
        lines.append(f"| {speaker} | " + " | ".join(f"{100 * values[name]:.1f} %" for name in METRICS) + " |")
    Path(f"{out}.md").write_text("\n".join([*lines, ""]))
