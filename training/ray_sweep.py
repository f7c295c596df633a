"""`python -m training sweep --ray WORKERS`: the processes that share a sweep are tasks on a Ray cluster."""

from __future__ import annotations

import argparse
import os
import platform
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import optuna
import ray
import yaml
from ray.exceptions import RayError, RayTaskError

from training.sweep import Recipe, Sweep, SweepError

RETRIES = 10  # of each worker, when it dies with its node or Ray ends it because memory is short
CONNECT_SECONDS = 5.0


def run(
    make: Callable[..., Sweep],
    folder: Path,
    trials: int,
    workers: int,
    cpus: int | None = None,
    gpus: float | None = None,
) -> Sweep:
    """Have workers do a sweep's work: on the cluster that `RAY_ADDRESS` names or that this machine is in,
    else on a Ray of this machine alone. Shows each trial's line.

    Args:
        make: the sweep, of its `folder`.
        folder: where the sweep lives; all nodes must see it, under this path.
        trials: how many in all.
        workers: how many are to share the work; those for which Ray has no room wait.
        cpus: of a worker; default: one for each process of the trainer.
        gpus: of a worker; default: one for each process, if the trainer uses GPUs.

    Raises:
        SweepError: the folder has another sweep, there is no Ray, or the workers cannot do the work.
    """
    if workers < 1 or (cpus is not None and cpus < 1) or (gpus is not None and gpus < 0.0):
        raise SweepError("--ray and --ray-cpus must be at least 1, --ray-gpus at least 0")
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    sweep = make(folder=folder)
    processes, accelerator = trainer(sweep.recipe, sweep.options)
    try:
        # what workers print is shown from the study: Ray drops lines that differ by their numbers only
        ray.init(log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise SweepError(f"there is no Ray to sweep on: {error}") from error
    try:
        cpus = processes if cpus is None else cpus
        if gpus is None:
            has_gpus = ray.cluster_resources().get("GPU", 0) > 0
            gpus = processes if accelerator in ("gpu", "cuda") or (accelerator == "auto" and has_gpus) else 0
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            print(f"no node has {cpus} CPUs and {gpus:g} GPUs: Ray waits for one that does", flush=True)
        threads = max(1, cpus // processes)
        with NamedTemporaryFile(dir=folder, prefix=".ray.") as sign:
            task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(work)
            arguments = (make, Path(sign.name).resolve(), trials, threads, gpus > 0)
            _follow(sweep, [task.remote(*arguments) for _ in range(workers)])
    finally:
        ray.shutdown()
    return sweep


def _check_address(address: str) -> None:
    """That somebody listens there: Ray would try for minutes. What is no host and port Ray judges at once.

    Raises:
        SweepError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SweepError(
            f"nothing can be reached at RAY_ADDRESS={address} ({error}): it should be the head node of a Ray "
            "cluster; start that, mend the address, or unset it to sweep without that cluster"
        ) from error


def trainer(recipe: Recipe, options: Sequence[str]) -> tuple[int, str]:
    """How many processes a recipe's trainer has, and its accelerator; options come before the recipe."""
    settings = recipe.get("trainer") or {}
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in (("accelerator", "auto"), ("devices", 1)):
        value = settings.get(name, default)
        parser.add_argument(f"--trainer.{name}", dest=name, type=yaml.safe_load, default=value)
    found = parser.parse_known_args(options)[0]
    # "auto" and -1 are all devices that a process sees, and from Ray it sees its own
    processes = found.devices if isinstance(found.devices, int) and found.devices > 0 else 1
    return processes, found.accelerator


def work(make: Callable[..., Sweep], sign: Path, trials: int, threads: int, uses_gpus: bool) -> None:
    """What a worker does: its share.

    Args:
        make: the sweep, of its `folder`.
        sign: a file that is in the folder for the time of the sweep.
        trials: how many in all.
        threads: for each of the trainer's processes.
        uses_gpus: else the node's GPUs are somebody else's.

    Raises:
        SweepError: this node does not see the folder; it would do the whole sweep in one of its own.
    """
    if not sign.exists():
        raise SweepError(
            f"{platform.node()} does not see {sign.parent}: --out must be a folder that all nodes see"
        )
    os.environ["OMP_NUM_THREADS"] = str(threads)  # Ray's own default is all of the worker's for each process
    if not uses_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides none from who asked for none
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make(folder=sign.parent).work(trials)


def _follow(sweep: Sweep, tasks: list[Any]) -> None:
    """Show results until all tasks are done; none is left when this returns or raises."""
    shown = set(sweep.results())
    workers = len(tasks)
    lost = 0
    try:
        while tasks:
            done, tasks = ray.wait(tasks, timeout=1.0)
            results = sweep.results()
            for number in sorted(results.keys() - shown):
                print(results[number], flush=True)
            shown |= results.keys()
            for task in done:
                try:
                    ray.get(task)
                except RayTaskError as error:
                    raise SweepError(f"a worker failed: {error.cause}") from error
                except RayError as error:  # the others do its work
                    print(f"a worker is lost: {error}", flush=True)
                    lost += 1
    finally:
        for task in tasks:
            ray.cancel(task, force=True)
    if lost == workers:
        raise SweepError("all workers are lost; the same command goes on where they were")
