"""The command line of `python -m service batch`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from service import logs
from service.app import check_model
from service.batch.files import Input, InputError, Task
from service.engine import (
    DeviceError,
    Engine,
    EngineStoppedError,
    LaneDiedError,
    Limits,
    Model,
    StoreError,
    UnknownModelError,
    cpus,
)
from service.settings import Settings

if TYPE_CHECKING:
    from service.batch.results import Results

_TASKS: tuple[Task, ...] = ("digits", "frames")
_NAME = "python -m service batch"
_NEEDED = ("pyarrow", "rich")


class _RefusedError(Exception):
    """Nothing was begun; the message says why, and what to do."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 if every file has been classified; 1 if some could not be, or the work failed;
        2 if it was not begun; 130 after Ctrl-C, 143 after SIGTERM.
    """
    options = _parser().parse_args(arguments)
    settings = Settings.from_command_line(
        [
            f"--{name}={value}"
            for name in ("store", "device", "lanes", "batch-rows")
            if (value := getattr(options, name.replace("-", "_"))) is not None
        ]
    )
    logs.configure(settings.log_format, "warning")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _refuse(f"needs {' and '.join(missing)}: in the project's folder, pip install -e '.[batch]'")
    try:
        return _begin(options, settings)
    except (StoreError, DeviceError, InputError, _RefusedError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:  # before anything was begun
        return 128 + signal.SIGINT


def _refuse(reason: str) -> int:
    print(f"{_NAME}: {reason}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        _NAME,
        description="Classify files: images of digits and recordings of speech. The same command again "
        "classifies what has not been. Limits, such as a file's size, are those of the server: see "
        "MOMENTUM_MAX_BODY_BYTES and others in python -m service --help.",
        epilog="Exit status: 0 if every file was classified, 1 if some could not be, 2 if nothing was begun; "
        "130 after Ctrl-C and 143 after SIGTERM, when what had been classified is written.",
    )
    parser.add_argument(
        "input",
        help="a folder, with its folders, hidden files left out; or a text file with a path a line, relative "
        "to where it lies; or - for such lines from standard input",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help="where results go, such as results.parquet: a FOLDER of Parquet files, which readers of Parquet "
        "take as one table. Files that could not be classified have a text in its column `error`, and are "
        "listed beside it in results.errors.csv",
    )
    parser.add_argument(
        "--model",
        help="of the store, for all files; default: digits for images and frames for recordings, by the "
        "ending of the file's name",
    )
    parser.add_argument("--allow-bad", action="store_true", help="exit with 0 though some files were bad")
    parser.add_argument(
        "--decoders",
        type=_positive,
        default=cpus.available(),
        help="processes that decode; default: one a CPU",
    )
    parser.add_argument(
        "--part-rows",
        type=_positive,
        default=10_000,
        help="rows of a part; kill -9 loses as many at the most. A part is also written once a minute; "
        "default: %(default)s",
    )
    parser.add_argument("--store", help="folder of models; default: the shipped ones")
    parser.add_argument("--device", help="auto, cpu or cuda; default: auto")
    parser.add_argument("--lanes", help="inferences side by side; default: one a CPU, or one on a GPU")
    parser.add_argument("--batch-rows", help="rows that may run as one inference; default: 16")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def _begin(options: argparse.Namespace, settings: Settings) -> int:
    from service.batch.results import Results, ResultsError  # imports what may not be installed

    try:
        with Results(options.out) as results:
            source = Input(options.input, (options.out, results.errors))
            return asyncio.run(_classify(options, settings, source, results))
    except ResultsError as error:
        raise _RefusedError(str(error)) from error


async def _classify(options: argparse.Namespace, settings: Settings, source: Input, results: Results) -> int:
    from service.batch.decoding import Decoders, DecodersError, Recipe
    from service.batch.progress import Display
    from service.batch.run import CHUNKS, IMAGES, Run

    # What may wait for the lanes is bounded by what is begun, which is never refused.
    engine = Engine(
        settings.store,
        settings.lanes,
        settings.batch_rows,
        Limits(sys.maxsize, sys.maxsize),
        check=check_model,
        versions=settings.versions,
        device=settings.device,
    )
    models = _models(engine, options.model, results)
    results.begin({model.card.name: model for model in models.values()})
    only = next(iter(models)) if options.model else None
    recipes = {task: Recipe.of(model, settings) for task, model in models.items()}
    in_flight = CHUNKS * engine.lanes * max(1, settings.batch_rows // (IMAGES if only == "digits" else 1))
    caught: list[int] = []
    with Decoders(options.decoders, settings.queue_bytes) as decoders, Display() as display:
        display.bad = results.bad
        async with engine:
            run = Run(
                engine,
                models,
                recipes,
                only,
                decoders,
                results,
                display,
                in_flight,
                options.part_rows,
            )

            def stop(number: int) -> None:
                caught.append(number)
                run.stop()
                signal.signal(number, signal.SIG_DFL)  # the second ends the process at once

            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop, number)
            try:
                await run.run(source)
                results.list_errors()
            except (OSError, DecodersError, LaneDiedError, EngineStoppedError) as error:
                said = "; ".join([str(error), *getattr(error, "__notes__", ()), "what was written stays"])
                print(f"{_NAME}: {said}", file=sys.stderr)
                with suppress(OSError):
                    results.list_errors()
                return 1
    if caught:
        return 128 + caught[0]
    if results.bad:
        print(f"{results.bad} bad files are listed in {results.errors}", file=sys.stderr)
    return 1 if results.bad and not options.allow_bad else 0


def _models(engine: Engine, name: str | None, results: Results) -> dict[Task, Model]:
    """For each task the model, in the version that the results are of."""
    models: dict[Task, Model] = {}
    for wanted in [name] if name else [task for task in _TASKS if task in engine.models]:
        before = results.models.get(wanted)
        try:
            model = engine.model(wanted, before["version"] if before else None)
        except UnknownModelError as error:
            raise _RefusedError(f"{error}{_OTHER if before else ''}") from error
        if before and model.card.file.sha256 != before["sha256"]:
            raise _RefusedError(
                f"{results.folder} holds results of {wanted} version {before['version']} with SHA-256 "
                f"{before['sha256']}; the store's has {model.card.file.sha256}{_OTHER}"
            )
        models[model.card.task] = model
    return models


_OTHER = ": put the model back into the store, or give another --out"
