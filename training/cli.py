"""The command line: LightningCLI with this project's defaults."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from training.allocator import keep_freed_memory
from training.data import DataError
from training.digits import DigitsData, DigitsTask

# what decides the weights, besides model and data
TRAINER_OPTIONS = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")


class TrainingCLI(LightningCLI):
    """`fit`, `validate`, `test`; one seed for weights, shuffling, augmentation and dropout."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the one seed to everything that draws."""
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def before_fit(self) -> None:
        """Have the checkpoints say what they were made from."""
        config = json.loads(self.parser.dump(self.config, format="json"))["fit"]
        data = {name: value for name, value in config["data"].items() if name != "data"}
        trainer = {name: config["trainer"].get(name) for name in TRAINER_OPTIONS}
        trainer["processes"] = self.trainer.world_size
        self.model.recipe = {"model": config["model"], "data": data, "trainer": trainer}


def data_directory_options(arguments: Sequence[str]) -> list[str]:
    """`--data DIR`, as in the other commands, for what LightningCLI would call `--data.data DIR`.

    LightningCLI itself would take `--data` for a file of the data module's settings.
    """
    return ["--data.data" + a[6:] if a == "--data" or a.startswith("--data=") else a for a in arguments]


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: data is missing or damaged (code 1), or an argument is wrong (code 2).
    """
    sys.argv[1:] = data_directory_options(sys.argv[1:])
    keep_freed_memory()
    defaults: dict[str, Any] = {"plugins": [{"class_path": "training.checkpoints.AtomicCheckpointIO"}]}
    try:
        TrainingCLI(
            DigitsTask,
            DigitsData,
            seed_everything_default=1,
            trainer_defaults=defaults,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,  # the task makes its own, with the curriculum's learning rate
        )
    except DataError as error:
        raise SystemExit(f"error: {error}") from error
