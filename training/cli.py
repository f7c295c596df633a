"""The command line: LightningCLI with this project's defaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from training.data import DataError
from training.digits import DigitsData, DigitsTask
from training.processes import EndOnSigterm, torchrun_options
from training.task import Data, Task

# what decides the weights, besides model and data
TRAINER_OPTIONS = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")


class TrainingCLI(LightningCLI):
    """`fit`, `validate`, `test`; one seed for weights, shuffling, augmentation and dropout.

    A run of NAME.yaml lives in runs/NAME: best.ckpt, last.ckpt and the TensorBoard log. A logger that is
    given takes the place of that log. Callbacks that are given come in addition, and take the place of those
    of their kind.
    """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """What the tasks can do: all but `predict`."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the one seed to everything that draws; a recipe that names no classes is about digits."""
        parser.set_defaults({"model": class_path(DigitsTask), "data": class_path(DigitsData)})
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments that are given; LightningCLI's own warns if the process has others."""
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Name the run's folder after the recipe, and take from torchrun what it has decided."""
        config = self.config[self.subcommand]
        for name, value in torchrun_options().items():
            config.trainer[name] = value
        if config.trainer.default_root_dir is None:
            name = Path(str(config.config[-1])).stem if config.config else "unnamed"
            config.trainer.default_root_dir = f"runs/{name}"

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with a log, a progress bar, and checkpoints of the best epoch and the last."""
        options = self.config_init[self.subcommand].trainer
        folder = options.default_root_dir
        if options.logger is None:
            kwargs["logger"] = TensorBoardLogger(folder, name="logs")
        given = options.callbacks or []
        callbacks: list[Callback] = given if isinstance(given, list) else [given]
        standard: list[Callback] = [EndOnSigterm()]
        if options.enable_progress_bar is not False and not has(callbacks, ProgressBar):
            standard.append(RichProgressBar())
        if options.enable_checkpointing is not False and not has(callbacks, Checkpoint):
            metric, mode = self.model.monitor
            settings: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
            standard.append(ModelCheckpoint(filename="best", monitor=metric, mode=mode, **settings))
            standard.append(ModelCheckpoint(filename="last", **settings))
        return super().instantiate_trainer(**kwargs, callbacks=[*callbacks, *standard])

    def before_fit(self) -> None:
        """Have the checkpoints say what they were made from."""
        config = json.loads(self.parser.dump(self.config, format="json"))["fit"]
        config["data"]["init_args"].pop("data", None)  # where the files lie decides nothing
        trainer = {name: config["trainer"].get(name) for name in TRAINER_OPTIONS}
        trainer["processes"] = self.trainer.world_size
        self.model.recipe = {"model": config["model"], "data": config["data"], "trainer": trainer}


def class_path(cls: type) -> dict[str, str]:
    """How a recipe names a class."""
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}"}


def has(callbacks: Sequence[Callback], kind: type[Callback]) -> bool:
    """Whether one of the callbacks is of this kind."""
    return any(isinstance(callback, kind) for callback in callbacks)


def data_directory_options(arguments: Sequence[str]) -> list[str]:
    """`--data DIR`, as in the other commands, for what LightningCLI would call `--data.data DIR`.

    LightningCLI itself would take `--data` for a file of the data module's settings.
    """
    return ["--data.data" + a[6:] if a == "--data" or a.startswith("--data=") else a for a in arguments]


def main(arguments: Sequence[str]) -> Trainer:
    """Run the command line; returns the trainer as it was left.

    Raises:
        SystemExit: data is missing or damaged (code 1), or an argument is wrong (code 2).
    """
    defaults: dict[str, Any] = {
        "plugins": [{"class_path": "training.checkpoints.AtomicCheckpointIO"}],
        "devices": 1,  # a batch is a process's: more of them would be another training
    }
    try:
        cli = TrainingCLI(
            Task,
            Data,
            args=data_directory_options(arguments),
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
            trainer_defaults=defaults,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,  # the tasks make their own
            parser_kwargs={
                "prog": "python -m training",
                "description": "Train. Besides the commands below: `curves` draws the losses of runs, "
                "`gradients` the gradients of hidden states, `speakers` measures a recipe on speakers it has "
                "not heard, `sweep` looks for the best mu and epsilon; each has its own --help.",
            },
        )
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
    return cli.trainer
