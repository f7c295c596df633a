"""`python -m training sweep`: which mu and epsilon suit a recipe."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from training.speakers import without_data
from training.trial import GO_ON, STOP

Recipe = dict[str, Any]
NAMES = ("mu", "epsilon")


class SweepError(Exception):
    """The sweep cannot be begun or has no result; the message says why and what to do."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status: 0 done, 1 refused or without result."""
    parser = argparse.ArgumentParser(
        prog="python -m training sweep",
        description="Train a recipe with other mu and epsilon again and again, and look for the best on the "
        "validation split. A sweep that was killed goes on when it is started again; several at once, on one "
        "machine or on several that see the same folder, share the work. Other options, such as "
        "--trainer.max_epochs, go to the trainings.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="RECIPE")
    for name in NAMES:
        parser.add_argument(f"--{name}", type=float, nargs=2, metavar=("LEAST", "GREATEST"))
    parser.add_argument("--trials", type=int, default=20, help="how many in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="what is tried depends on it (default: 0)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the sweep lives (default: runs/sweep-RECIPE)"
    )
    parser.add_argument(
        "--prune-after",
        type=int,
        default=10,
        metavar="EPOCHS",
        help="every trial gets as many; later a trial ends whose best is worse than the median of the others "
        "at its epoch (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="a trial whose machine says nothing for so long is lost, and made up for (default: %(default)s)",
    )
    parser.add_argument("--ray", type=int, metavar="WORKERS", help="so many on a Ray cluster share the work")
    parser.add_argument("--ray-cpus", type=int, metavar="N", help="a worker's (default: 1 a process)")
    parser.add_argument("--ray-gpus", type=float, metavar="N", help="a worker's (default: 1 a process, or 0)")
    options, rest = parser.parse_known_args(arguments)
    if options.ray is None and (options.ray_cpus is not None or options.ray_gpus is not None):
        parser.error("--ray-cpus and --ray-gpus are for --ray")
    ranges = {name: tuple(getattr(options, name)) for name in NAMES if getattr(options, name)}
    out = options.out or Path("runs") / f"sweep-{options.config.stem}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        recipe = read_recipe(options.config, ranges)
        settings = {name: getattr(options, name) for name in ("seed", "prune_after", "patience")}
        make = partial(Sweep, recipe, ranges, rest, **settings)
        if options.ray is None:
            sweep = make(folder=out)
            sweep.work(options.trials)
        else:
            sweep = _on_ray(make, out, options)
        sweep.conclude()
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _on_ray(make: Callable[..., Sweep], folder: Path, options: argparse.Namespace) -> Sweep:
    """The sweep, after its workers on Ray have done the work."""
    try:
        from training import ray_sweep
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SweepError("--ray needs Ray: in the project's folder, pip install -e '.[ray]'") from error
    return ray_sweep.run(make, folder, options.trials, options.ray, options.ray_cpus, options.ray_gpus)


def read_recipe(path: Path, ranges: dict[str, tuple[float, float]]) -> Recipe:
    """The recipe, which must have what is swept.

    Raises:
        SweepError: it has not, or it cannot be read, or there is nothing to sweep.
    """
    if not ranges:
        raise SweepError("nothing to sweep: give --mu or --epsilon, each with its least and greatest value")
    if ranges.get("mu", (0.0, 0.0))[0] < 0.0 or ranges.get("mu", (0.0, 0.0))[1] >= 1.0:
        raise SweepError("mu must be in [0, 1)")
    if ranges.get("epsilon", (1.0, 1.0))[0] <= 0.0:
        raise SweepError("epsilon must be positive")
    for name, (least, greatest) in ranges.items():
        if least > greatest:
            raise SweepError(f"--{name}: {least} is greater than {greatest}")
    try:
        recipe: Recipe = yaml.safe_load(path.read_text())
        missing = ranges.keys() - filter_options(recipe).keys()
    except OSError as error:
        raise SweepError(f"{path}: cannot be read ({error.strerror})") from error
    except (AttributeError, KeyError, TypeError, yaml.YAMLError) as error:
        raise SweepError(f"{path}: its network has no filter_options") from error
    if missing:
        raise SweepError(f"{path}: its filter_options name no {' and no '.join(sorted(missing))}")
    return recipe


def filter_options(recipe: Recipe) -> dict[str, Any]:
    """Where a recipe has mu and epsilon.

    Raises:
        AttributeError, KeyError, TypeError: nowhere.
    """
    model = recipe["model"]
    model = model.get("init_args", model)
    network = model["classifier" if "classifier" in model else "network"]
    options: dict[str, Any] = network.get("init_args", network)["filter_options"]
    options.keys()
    return options


def monitor(recipe: Recipe) -> tuple[str, str]:
    """The metric that the recipe's task is judged by, and "min" or "max"."""
    module, _, name = recipe["model"].get("class_path", "training.digits.DigitsTask").rpartition(".")
    metric, mode = getattr(importlib.import_module(module), name).monitor
    return metric, mode


class Sweep:
    """Trials of one recipe, kept in a folder: `study.journal`, and for each trial its run.

    The n-th trial's mu and epsilon depend on the seed, on n and on the trials that were finished: one process
    that was killed and started again finds what it would have found. A trial that is lost with its process
    does not count.

    Args:
        recipe: what to train.
        ranges: least and greatest value of what is swept, by name.
        options: more options for the trainings.
        folder: where the sweep lives; the processes that share it must all see it.
        seed: seed of what is tried; the trainings have the recipe's.
        prune_after: epochs that every trial gets.
        patience: seconds without a sign of life after which a trial is lost.

    Raises:
        SweepError: the folder has another sweep.
    """

    def __init__(
        self,
        recipe: Recipe,
        ranges: dict[str, tuple[float, float]],
        options: Sequence[str],
        folder: Path,
        seed: int,
        prune_after: int,
        patience: float,
    ) -> None:
        self.recipe, self.ranges, self.options = recipe, ranges, options
        self.folder, self.seed, self.patience = folder, seed, patience
        self.metric, mode = monitor(recipe)
        folder.mkdir(parents=True, exist_ok=True)
        # its lock is a symbolic link, which network file systems make atomically; SQLite's they often lack
        storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
        self.study = optuna.create_study(
            storage=storage,
            study_name="sweep",
            direction="maximize" if mode == "max" else "minimize",
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=prune_after),
            load_if_exists=True,
        )
        settings = {"recipe": recipe, "ranges": ranges, "seed": seed, "prune_after": prune_after}
        settings = json.loads(json.dumps(settings | {"options": without_data(options)}))
        if self.study.user_attrs.get("settings", settings) != settings:
            raise SweepError(f"{folder} has a sweep with other settings: choose another --out, or remove it")
        self.study.set_user_attr("settings", settings)

    def work(self, trials: int) -> None:
        """Train until the study has so many trials, whoever trained them."""
        while (trial := self._claim(trials)) is not None:
            self._train(trial)
            self._write()

    def conclude(self) -> None:
        """Write the tables, and show what is best.

        Raises:
            SweepError: no trial was finished.
        """
        self._write()
        if not self._finished():
            raise SweepError(f"no trial was finished: {self.folder}/trial-*/output.txt say why")
        best = self.study.best_trial
        found = ", ".join(f"{name} {value:.4g}" for name, value in best.params.items())
        print(f"best of {len(self._counted())}: trial {best.number}, {found}: {self.metric} {best.value:.4f}")
        print(f"{self.folder / 'trials.csv'}\n{self.folder / 'best.yaml'}")

    def results(self) -> dict[int, str]:
        """A line for each trial that was trained, by number, whoever trained it."""
        trials = [trial for trial in self._counted() if trial.state.is_finished()]
        return {trial.number: trial.user_attrs["line"] for trial in trials if "line" in trial.user_attrs}

    def _counted(self) -> list[FrozenTrial]:
        """All but the lost."""
        trials = self.study.get_trials(deepcopy=False)
        lost = self.study.user_attrs
        return [trial for trial in trials if f"lost {trial.number}" not in lost]

    def _finished(self) -> list[FrozenTrial]:
        return [trial for trial in self._counted() if trial.state is TrialState.COMPLETE]

    def _run_of(self, trial: FrozenTrial | Trial) -> Path:
        return self.folder / f"trial-{trial.number:04}"

    def _claim(self, trials: int) -> Trial | None:
        """A trial to train; None when there is none left, after the last one's end."""
        while True:
            self._give_up_lost()
            counted = self._counted()
            if len(counted) >= trials:
                if all(trial.state.is_finished() for trial in counted):
                    return None
                time.sleep(min(1.0, self.patience / 4))
                continue
            trial = self.study.ask()
            trial.set_user_attr("process", [platform.node(), os.getpid()])
            position = [each.number for each in self._counted()].index(trial.number)
            if position >= trials:  # another process was first
                self._lose(trial.number)
                continue
            seed = int(np.random.SeedSequence([self.seed, position]).generate_state(1)[0])
            self.study.sampler = optuna.samplers.TPESampler(seed=seed)
            for name, (least, greatest) in self.ranges.items():
                trial.suggest_float(name, least, greatest)
            return trial

    def _give_up_lost(self) -> None:
        gone = {
            trial.number for trial in self._counted() if not trial.state.is_finished() and self._gone(trial)
        }
        for trial in self._counted():
            # once more: its process may have finished it and ended in between
            if trial.number in gone and not trial.state.is_finished():
                self._lose(trial.number)

    def _lose(self, number: int) -> None:
        self.study.set_user_attr(f"lost {number}", True)
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _gone(self, trial: FrozenTrial) -> bool:
        """Whether the process that had this trial has ended, or is silent for too long."""
        node, process = trial.user_attrs.get("process", (None, None))
        if node == platform.node():
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return True
            except PermissionError:  # somebody else's: it lives
                pass
        try:
            sign = (self._run_of(trial) / "alive").stat().st_mtime
        except FileNotFoundError:
            sign = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - sign > self.patience

    @contextmanager
    def _alive(self, run: Path) -> Iterator[None]:
        """Give a sign of life now and then."""
        done = Event()

        def touch() -> None:
            (run / "alive").touch()
            while not done.wait(self.patience / 4):
                (run / "alive").touch()

        thread = Thread(target=touch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _train(self, trial: Trial) -> None:
        """Train it in a process of its own, whose crash is the trial's failure and nobody else's."""
        run = self._run_of(trial)
        run.mkdir(exist_ok=True)
        recipe = deepcopy(self.recipe)
        filter_options(recipe).update(trial.params)
        path = run / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "training", "fit", "--config", str(path), *self.options]
        command += [f"--trainer.default_root_dir={run}", "--trainer.enable_progress_bar=false"]
        command += ["--trainer.callbacks+=training.trial.Reports"]
        command += [f"--trainer.callbacks.channel={theirs.fileno()}"]
        with ours, self._alive(run), (run / "output.txt").open("wb") as output:
            with theirs:
                process = subprocess.Popen(  # noqa: S603
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            try:
                best, pruned = self._follow(trial, ours)
                status = process.wait()
            except UpdateFinishedTrialError:
                return  # we were silent for so long that others took it for lost
            finally:
                process.kill()
                process.wait()
        value = None
        if status != 0 or best is None:
            state, result = TrialState.FAIL, f"failed with exit status {status}, see {run / 'output.txt'}"
        elif pruned:
            state, result = TrialState.PRUNED, f"{self.metric} {best:.4f}, pruned"
        else:
            state, result, value = TrialState.COMPLETE, f"{self.metric} {best:.4f}", best
        found = ", ".join(f"{name} {value:.4g}" for name, value in trial.params.items())
        line = f"trial {trial.number}: {found}: {result}"
        with suppress(UpdateFinishedTrialError):  # as above
            trial.set_user_attr("line", line)
        self.study.tell(trial, value, state, skip_if_finished=True)
        print(line, flush=True)

    def _follow(self, trial: Trial, channel: socket.socket) -> tuple[float | None, bool]:
        """Take a training's reports until it ends: the best value, and whether it was told to stop."""
        best: float | None = None
        better = max if self.study.direction is optuna.study.StudyDirection.MAXIMIZE else min
        pruned = False
        # a process that dies with an answer unread resets the connection: its exit status says the rest
        with suppress(ConnectionError), channel.makefile("rw") as lines:
            for line in lines:
                report = json.loads(line)
                if math.isfinite(report["value"]):
                    best = report["value"] if best is None else better(best, report["value"])
                trial.report(report["value"], report["epoch"])
                pruned = trial.should_prune()
                lines.write(f"{STOP if pruned else GO_ON}\n")
                lines.flush()
        return best, pruned

    def _write(self) -> None:
        """Write the table of all trials, and the best one's recipe."""
        rows: list[Sequence[Any]] = [["trial", *self.ranges, "state", self.metric, "epochs", "seconds"]]
        better = max if self.study.direction is optuna.study.StudyDirection.MAXIMIZE else min
        for trial in self._counted():
            if trial.state.is_finished():
                values = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
                params = [f"{trial.params[name]:.6g}" for name in self.ranges if name in trial.params]
                best = f"{better(values):.6g}" if values else ""
                seconds = f"{trial.duration.total_seconds():.1f}" if trial.duration else ""
                state = trial.state.name.lower()
                rows.append([trial.number, *params, state, best, len(trial.intermediate_values), seconds])
        # then into place: several may write
        beside = self.folder / f".trials.{platform.node()}.{os.getpid()}"
        with beside.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        beside.replace(self.folder / "trials.csv")
        if self._finished():
            beside.write_text((self._run_of(self.study.best_trial) / "recipe.yaml").read_text())
            beside.replace(self.folder / "best.yaml")
