"""The serving benchmark's tables, numbers and plots."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.serving.payloads import COUNT
from benchmarks.serving.results import BINARY, DEADLINE, Overload, Results, targets
from training.plots import COLOURS, STYLE, write_svg

_VERDICTS = {True: "met", False: "**missed**", None: ""}


def write_report(results: Results, folder: Path) -> None:
    """Write serving.md, serving.csv, serving.svg and serving-overload.svg into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_numbers(results, folder / "serving.csv")
    with mpl.rc_context(STYLE):
        write_svg(_rates(results), folder / "serving.svg")
        if results.overload is not None:
            write_svg(_seconds(results.overload), folder / "serving-overload.svg")
    (folder / "serving.md").write_text("\n".join(_text(results)) + "\n")


def _text(results: Results) -> Iterator[str]:
    yield "# How fast the service answers"
    yield ""
    yield " ".join(results.about)
    yield ""
    yield (
        "All serve the same ONNX file, the shipped digits model (784 time steps, 128 units), with "
        f"onnxruntime on single-threaded sessions. wrk asks on the same machine, {COUNT} different images in "
        "turn. Each peer runs in an environment of its own at the best setting found for it. Before anybody "
        "is measured, it has to answer as many different requests at a time as onnxruntime does. *Raw* is "
        "onnxruntime in a process without a server."
    )
    yield ""
    yield "## What was aimed at"
    yield ""
    yield "| aim | measured | |"
    yield "| --- | --- | --- |"
    for target in targets(results):
        yield f"| {target.text} | {target.figure} | {_VERDICTS[target.met]} |"
    yield ""
    yield "## Under load"
    yield ""
    yield "![Requests a second of each server](serving.svg)"
    yield ""
    yield from _rows(results)
    for name, reason in results.failures.items():
        yield f"\n**{name} was not measured, or not to the end:** {reason}."
    yield ""
    yield "## Raw onnxruntime"
    yield ""
    yield from _raw(results)
    if results.lone is not None:
        yield "\n## A lone request\n"
        yield "One connection, one request after the other, in turn with runs of raw onnxruntime. Medians.\n"
        yield "| payload | ms | ms over raw |"
        yield "| --- | ---: | ---: |"
        yield f"| raw onnxruntime | {results.lone.raw:.2f} | |"
        for payload, took in results.lone.answers.items():
            yield f"| {payload} | {took:.2f} | {took - results.lone.raw:.2f} |"
    if results.overload is not None:
        yield from _overload(results.overload)
    yield "\nAll numbers: [serving.csv](serving.csv)."


def _rows(results: Results) -> Iterator[str]:
    yield (
        "| server | version | settings | payload | connections | requests/s | p50 ms | p99 ms "
        "| of raw's best | of a lone loop | CPU ms a request | cores | errors |"
    )
    yield "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in results.rows:
        server, load = row.server, row.load
        lone = f"{load.rate / results.raw.alone:.2f}" if row.connections == 1 else ""
        cells = [
            f"**{server.name}**" if server.ours else server.name,
            server.version,
            server.settings,
            row.payload,
            str(row.connections),
            f"{load.rate:.0f}",
            f"{load.p50_ms:.1f}",
            f"{load.p99_ms:.1f}",
            f"{load.rate / results.raw.best:.2f}",
            lone,
            f"{row.cpu_ms:.2f}",
            f"{row.cpu / load.seconds:.2f}",
            str(load.errors),
        ]
        yield f"| {' | '.join(cells)} |"
    if results.rows:
        busiest = max(row.others / row.load.seconds for row in results.rows)
        yield f"\nProcesses other than the server and wrk used at most {busiest:.2f} cores during a row."


def _raw(results: Results) -> Iterator[str]:
    raw = results.raw
    counts = sorted({threads for threads, _ in raw.passes[0]})
    yield (
        f"Sequences a second, {len(raw.passes)} passes over the run. The best with {counts[-1]} threads, "
        f"mean of the passes, is **{raw.best:.0f}**; a loop of single runs makes **{raw.alone:.0f}**."
    )
    yield ""
    yield f"| batch | {' | '.join('threads ' + ', '.join(map(str, counts)) for _ in raw.passes)} |"
    yield f"| ---: | {' | '.join('---:' for _ in raw.passes)} |"
    for batch in sorted({batch for _, batch in raw.passes[0]}):
        cells = [", ".join(f"{one[threads, batch]:.0f}" for threads in counts) for one in raw.passes]
        yield f"| {batch} | {' | '.join(cells)} |"


def _overload(overload: Overload) -> Iterator[str]:
    outcome = overload.outcome
    yield "\n## Overload\n"
    yield (
        f"{overload.rate:.0f} {BINARY} requests a second for {outcome.seconds:.0f} s, "
        f"{overload.rate / overload.capacity:.1f} times the {overload.capacity:.0f} that are answered under "
        "full load. They are sent at random times, whether earlier ones are answered or not, each with a "
        f"deadline of {DEADLINE:g} s. Times are from when a request was due. Sending took "
        f"{outcome.cores:.2f} cores of the same machine."
    )
    yield "\n![Answers and rejections of each second](serving-overload.svg)\n"
    said = ", ".join(f"{seconds} s {count} times" for seconds, count in sorted(outcome.retry_after.items()))
    answers = [outcome.milliseconds(share) for share in (50, 99)]
    rejections = [outcome.rejection_milliseconds(share) for share in (50, 99)]
    yield (
        f"Answered within the deadline: {outcome.goodput(DEADLINE):.0f} a second, {overload.goodput:.2f} of "
        f"capacity. p50 and p99 of answers are {answers[0]:.0f} and {answers[1]:.0f} ms, of rejections "
        f"{rejections[0]:.0f} and {rejections[1]:.0f} ms. Retry-After: {said or 'never said'}."
    )
    yield ""
    yield "| answer | requests |"
    yield "| --- | ---: |"
    for answer, count in sorted(outcome.answers.items()):
        if count:
            yield f"| {answer} | {count} |"


def _write_numbers(results: Results, path: Path) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        names = ["server", "version", "payload", "connections", "requests_per_second", "p50_ms", "p99_ms"]
        table.writerow([*names, "of_raw", "cpu_ms", "server_cores", "other_cores", "errors"])
        for row in results.rows:
            load = row.load
            numbers = [load.rate, load.p50_ms, load.p99_ms, load.rate / results.raw.best, row.cpu_ms]
            numbers += [row.cpu / load.seconds, row.others / load.seconds]
            who = [row.server.name, row.server.version, row.payload, row.connections]
            table.writerow([*who, *(f"{number:.4f}" for number in numbers), load.errors])
        for number, one in enumerate(results.raw.passes, start=1):
            for (threads, batch), rate in one.items():
                what = f"pass {number}, threads {threads}, batch {batch}"
                share = f"{rate / results.raw.best:.4f}"
                table.writerow(["onnxruntime", "", what, "", f"{rate:.4f}", "", "", share, "", "", "", ""])


def _rates(results: Results) -> Figure:
    connections = results.connections
    height = 1.0 + 0.2 * len(results.rows) / max(1, len(connections))
    figure = Figure(figsize=(10, height), layout="constrained")
    panels = figure.subplots(1, max(1, len(connections)), squeeze=False)[0]
    for axes, count in zip(panels, connections, strict=False):
        rows = [row for row in results.rows if row.connections == count][::-1]
        axes.barh(
            [f"{row.server.name}, {row.payload}" for row in rows],
            [row.load.rate for row in rows],
            color=[COLOURS[0 if row.server.ours else 4] for row in rows],
        )
        limit = results.raw.alone if count == 1 else results.raw.best
        axes.axvline(limit, color=COLOURS[1], linestyle="--")
        what = "a lone loop" if count == 1 else "raw onnxruntime"
        axes.set(title=f"connections: {count}", xlabel=f"requests/s; dashed: {what}")
        axes.grid(axis="y", visible=False)
        axes.tick_params("y", labelleft=axes is panels[0])
    return figure


def _seconds(overload: Overload) -> Figure:
    outcome = overload.outcome
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes: Axes = figure.subplots()
    seconds = range(int(outcome.seconds))
    axes.plot(seconds, [outcome.rejected[second] for second in seconds], color=COLOURS[4], label="429")
    axes.plot(seconds, [outcome.good[second] for second in seconds], color=COLOURS[0], label="200")
    axes.axhline(overload.capacity, color=COLOURS[1], linestyle="--", label="capacity")
    axes.set(xlabel="second in which a request was due", ylabel="answers", ylim=(0, None))
    axes.legend()
    return figure
