"""`python -m service doctor`: whether a server would run well here, and what is in its way."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from statistics import median

import onnxruntime
from pydantic import BaseModel, Field

from service import files, logs
from service.app import check_model
from service.engine import DeviceError, StoreError, cgroups, cpus, denormals, devices
from service.engine.batching import Layout
from service.engine.repository import Repository
from service.engine.scan import scan
from service.engine.store import Model, golden, load_model
from service.engine.tuning import Pace
from service.settings import Settings

_RUNS = 20  # of a model, to time it
_DISK = 100 * 2**20  # bytes, with less of which models can't be exported


class Run(BaseModel):
    """One model on one device."""

    model: str
    device: str
    runs: bool
    reason: str = Field(description="Why not.")


class Timing(BaseModel):
    """A model on the device that a server would take, one lane, by the card's golden input."""

    model: str
    size: int = Field(description="Of a row: pixels, or samples.")
    milliseconds: float = Field(description="One row alone.")
    rows: int = Field(description="As many together are fastest.")
    rows_per_second: float = Field(description="So.")


class Version(BaseModel):
    """Of a model in the store."""

    name: str
    version: str
    state: str
    reason: str


class Host(BaseModel):
    """What the system lets this process have."""

    cpus: int = Field(description="Of the machine.")
    affinity: int = Field(description="That its threads may run on.")
    quota: float | None = Field(description="CPU time of its cgroup, in CPUs; none is null.")
    memory_bytes: int = Field(description="Of the machine.")
    memory_limit: int | None = Field(description="Of its cgroup, bytes.")
    memory_used: int = Field(description="By this process, with all models loaded, bytes at the most.")
    open_files: int = Field(description="The most that it may have, connections among them.")
    store_free: int = Field(description="Bytes on the store's disk.")
    temporary_free: int = Field(description="Bytes for uploads.")


class Report(BaseModel):
    """All that was found. A server would run well if there are no problems."""

    versions: dict[str, str | None]
    providers: list[str] = Field(description="That onnxruntime says it has.")
    runs: list[Run]
    device: str | None = Field(description="That a server would take; null if it would not start.")
    device_reason: str
    lanes: int | None = Field(description="Threads that run models.")
    threads: int = Field(description="That loading all models left behind; lanes come on top.")
    denormals_flushed: bool = Field(
        description="Whether lanes take numbers too small for full precision as zero."
    )
    host: Host
    store: list[Version]
    timings: list[Timing]
    problems: list[str] = Field(description="Each with what to do.")


def main(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 if all is well, 1 if not.
    """
    parser = argparse.ArgumentParser(
        "python -m service doctor",
        description="Say what a server would run on here, how fast, and what is in its way. Takes the "
        "server's flags too, such as --device and --store: see python -m service --help.",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    chosen, rest = parser.parse_known_args(arguments)
    settings = Settings.from_command_line(rest)
    logs.configure(settings.log_format, "error")
    report = examine(settings)
    print(report.model_dump_json(indent=1) if chosen.json else "\n".join(_lines(report)))
    return 1 if report.problems else 0


def examine(settings: Settings) -> Report:
    """Load the store as a server would, and look around."""
    problems: list[str] = []
    repository: Repository | None = None
    lanes: int | None = None
    try:
        repository = devices.choose(
            settings.device, lambda on: Repository(settings.store, check_model, settings.versions, on)
        )
        lanes = repository.device.allow(settings.lanes)
    except (DeviceError, StoreError) as error:
        problems.append(f"a server would not start: {error}")
    else:
        problems += [f"{name} version {number}: {reason}" for name, number, reason in repository.problems]
    threads, host = _threads(), _host(settings.store)
    with ThreadPoolExecutor(1) as lane:
        flushed = lane.submit(denormals.flush).result()
    return Report(
        versions={
            name: _version(name) for name in ("momentum-serve", "onnxruntime", "onnxruntime-gpu", "numpy")
        }
        | {"python": platform.python_version()},
        providers=onnxruntime.get_available_providers(),
        runs=[*_runs(settings.store)],
        device=repository.device.name if repository else None,
        device_reason=repository.device.reason if repository else "",
        lanes=lanes,
        threads=threads,
        denormals_flushed=flushed,
        host=host,
        store=[Version.model_validate(vars(entry)) for entry in repository.index()] if repository else [],
        timings=[_time(model, settings.batch_rows) for model in repository.models.values()]
        if repository
        else [],
        problems=[*problems, *_unused(repository, settings), *_shortages(host, lanes, settings)],
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return len([*tasks.iterdir()]) if tasks.is_dir() else 1


def _host(store: Path) -> Host:
    pages = os.sysconf("SC_PAGE_SIZE")
    return Host(
        cpus=os.cpu_count() or 1,
        affinity=cpus.affinity(),
        quota=cgroups.cpu_quota(),
        memory_bytes=pages * os.sysconf("SC_PHYS_PAGES"),
        memory_limit=cgroups.memory_limit(),
        memory_used=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        open_files=files.most(),  # up to which a server raises its limit
        store_free=shutil.disk_usage(store).free if store.is_dir() else 0,
        temporary_free=shutil.disk_usage(tempfile.gettempdir()).free,
    )


def _runs(store: Path) -> Iterator[Run]:
    """The newest version of each model, on each device."""
    try:
        newest = dict(sorted(scan(store)))
    except StoreError:
        return
    paces: dict[str, tuple[Pace, ...]] = {}
    for device in (devices.cpu(), devices.cuda()):
        for name, number in newest.items():
            try:
                load_model(store / name / str(number), paces, device)
            except StoreError as error:
                # Not which file it is where no file could be run.
                reason = error.__cause__ if isinstance(error.__cause__, DeviceError) else error
                yield Run(model=name, device=device.name, runs=False, reason=str(reason))
            else:
                yield Run(model=name, device=device.name, runs=True, reason="")


def _time(model: Model, max_rows: int) -> Timing:
    inputs, outputs = golden(model)
    alone = {name: tensor[:1] for name, tensor in inputs.items()}
    took = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        model.run(alone, outputs)
        took.append(time.perf_counter() - begin)
    layout = Layout(model, max_rows)
    _, size, _ = layout.measure(alone, tuple(outputs))
    return Timing(
        model=model.card.name,
        size=size,
        milliseconds=1000 * median(took),
        rows=layout.rows(size),
        rows_per_second=1 / layout.pace(size).seconds,
    )


def _unused(repository: Repository | None, settings: Settings) -> Iterator[str]:
    """What is installed for a GPU, and in vain."""
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        yield (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            "`pip uninstall` both, then `pip install` the one that is meant"
        )
    if (
        repository
        and repository.device.name == "cpu"
        and settings.device == "auto"
        and _version("onnxruntime-gpu")
    ):
        yield f"onnxruntime-gpu is installed, but a server would run on the CPU: {repository.device.reason}"


def _shortages(host: Host, lanes: int | None, settings: Settings) -> Iterator[str]:
    """What a server would run out of."""
    if lanes and lanes > cpus.available():
        yield f"{lanes} lanes wait for each other on {cpus.available()} CPUs: leave --lanes out, or add CPUs"
    memory = min(host.memory_bytes, host.memory_limit or host.memory_bytes)
    needed = host.memory_used + settings.queue_bytes
    if memory < needed:
        yield (
            f"{_size(memory)} of memory are too little for the models ({_size(host.memory_used)}) and what "
            f"may wait (--queue-bytes, {_size(settings.queue_bytes)}): allow {_size(needed)} or let less wait"
        )
    needed_files = settings.max_connections + files.BESIDES
    if host.open_files < needed_files:
        yield (
            f"{host.open_files} open files are too few for --max-connections {settings.max_connections}: "
            f"`ulimit -Hn {needed_files}` (systemd: LimitNOFILE), or fewer connections"
        )
    if host.store_free < _DISK:
        yield f"{_size(host.store_free)} are free for models in {settings.store}: free some"
    if host.temporary_free < settings.max_body_bytes:
        yield (
            f"{_size(host.temporary_free)} are free in {tempfile.gettempdir()}, where uploads of up to "
            f"{_size(settings.max_body_bytes)} lie while they are read: free some, or set TMPDIR"
        )


def _lines(report: Report) -> Iterator[str]:
    """The report for people."""
    host = report.host
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items() if number)
    yield f"Versions   {versions}"
    yield f"Providers  {', '.join(report.providers)}"
    outcomes: dict[str, list[str]] = {}
    for run in report.runs:
        outcome = f"run on {run.device}" if run.runs else f"not on {run.device}: {run.reason}"
        outcomes.setdefault(outcome, []).append(run.model)
    for outcome, models in outcomes.items():
        yield f"           {', '.join(models)} {outcome}"
    yield f"Device     {report.device or 'none'}{report.device_reason and ': '}{report.device_reason}"
    quota = "no quota" if host.quota is None else f"a quota of {host.quota:g}"
    yield (
        f"CPUs       {host.affinity} of {host.cpus}, {quota}; {report.lanes or 'no'} lanes, {report.threads} "
        f"other threads; denormals {'flushed' if report.denormals_flushed else 'kept'}"
    )
    limit = "no limit" if host.memory_limit is None else f"a limit of {_size(host.memory_limit)}"
    yield f"Memory     {_size(host.memory_used)} used of {_size(host.memory_bytes)}, {limit}"
    yield (
        f"Disk       {_size(host.store_free)} free for models, {_size(host.temporary_free)} for uploads; "
        f"{host.open_files} open files"
    )
    yield "Store"
    for entry in report.store:
        yield f"           {entry.name} {entry.version} {entry.state}{entry.reason and ': '}{entry.reason}"
    yield "Timings    one lane"
    for timing in report.timings:
        yield (
            f"           {timing.model}, rows of {timing.size}: {timing.milliseconds:.2f} ms alone, "
            f"{timing.rows_per_second:.0f} rows/s {timing.rows} together"
        )
    yield f"Verdict    {'all is well' if not report.problems else 'not well'}"
    for problem in report.problems:
        yield f"           - {problem}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
