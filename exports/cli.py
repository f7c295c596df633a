"""The command line of the exporter."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

from exports.card import Card, CardError, Metric
from exports.errors import ExportError
from exports.store import DEFAULT_STORE, VERSION
from training.data import DataError, data_directory

# two correctly rounded programs may disagree where the two best classes are as good as equal: in so many
# examples, and in such a share of them
DISAGREEMENTS, DISAGREEING_SHARE = 2, 1e-4


def main(arguments: list[str]) -> int:
    """Run the command line; returns the process's exit status: 0 done, 1 refused, 2 wrong arguments."""
    try:
        if arguments[:1] == ["verify"]:
            return _verify(_verify_parser().parse_args(arguments[1:]))
        return _export(_export_parser().parse_args(arguments))
    except (ExportError, CardError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exports",
        description="Export a training checkpoint to the store. "
        "`python -m exports verify NAME` measures a stored model again.",
    )
    parser.add_argument(
        "checkpoint", type=Path, help="written by `python -m training fit`, such as runs/digits/best.ckpt"
    )
    parser.add_argument(
        "--name", type=_name, required=True, help="the model's name in the store, such as digits"
    )
    parser.add_argument("--version", type=_version, help="default: one more than the newest")
    _add_places(parser)
    return parser


def _verify_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exports verify",
        description="Measure the accuracies on a stored model's card again with onnxruntime; "
        "status 1 if they do not reproduce.",
    )
    parser.add_argument("name", type=_name)
    parser.add_argument("--version", type=_version, help="default: the newest")
    _add_places(parser)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="default: %(default)s")
    parser.add_argument(
        "--data", type=Path, help="data directory; default: MOMENTUM_DATA, else ~/.cache/momentum-serve"
    )


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", value):
        raise argparse.ArgumentTypeError(
            f"{value!r} is no model name: a to z, 0 to 9, _ and -, a letter first, at most 64"
        )
    return value


def _version(value: str) -> int:
    if not VERSION.fullmatch(value):
        raise argparse.ArgumentTypeError(f"{value!r} is no version: a whole number from 1")
    return int(value)


def _export(arguments: argparse.Namespace) -> int:
    # late: the only part that needs torch and onnx
    export = _import("exports.export").export
    folder: Path
    card: Card
    folder, card = export(
        arguments.checkpoint,
        arguments.name,
        arguments.version,
        arguments.store,
        data_directory(arguments.data),
    )
    for case in card.verification.cases:
        print(f"  {case}")
    print(f"largest difference from PyTorch: {card.verification.max_difference:.1e}")
    found = card.exactness
    print(f"bit for bit: batched {found.batched}, padded {found.padded}, streamed {found.streamed}")
    if found.streamed == "rounding":
        print(f"largest difference when streamed: {found.streamed_difference:.1e}")
    for metric in card.metrics:
        print(_text(metric))
    print(f"wrote {folder} ({card.file.bytes / 1024:.0f} KiB)")
    return 0


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ExportError(
            f"{error.name} is not installed: verifying needs one of the extras cpu and gpu, exporting train "
            "too; `make setup` installs what is needed"
        ) from error


def _verify(arguments: argparse.Namespace) -> int:
    verify_stored = _import("exports.measure").verify_stored
    pairs: list[tuple[Metric, Metric]] = verify_stored(
        arguments.store, arguments.name, arguments.version, data_directory(arguments.data)
    )
    if not pairs:
        raise ExportError(f"the card of {arguments.name} states no accuracy; export the model again")
    reproduced = True
    for stated, measured in pairs:
        allowed = max(DISAGREEMENTS, DISAGREEING_SHARE * measured.count)
        same = abs(stated.value - measured.value) * measured.count <= allowed
        verdict = "reproduced" if same else "NOT REPRODUCED"
        print(f"{_text(measured)}; the card says {100 * stated.value:.2f} %: {verdict}")
        reproduced = reproduced and same
    return 0 if reproduced else 1


def _text(metric: Metric) -> str:
    source = f"{metric.name} on {metric.dataset} {metric.split} ({metric.count} examples)"
    return f"{source}: {100 * metric.value:.2f} %"
