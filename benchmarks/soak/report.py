"""The verdicts, the table, the numbers and the plot."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.soak.run import MIX, Result, Sample
from benchmarks.soak.tally import Tally
from training.plots import COLOURS, STYLE, write_svg

WARM_UP = 0.2  # of the time, which does not count for memory
FLAT = 0.05
A_FEW = 2  # threads or files: clients come and go
MOST_IDLE = 0.0005  # of a core: what rounds to 0.0 %, as benchmarks.serving judges it
_MB = 1e6


@dataclass(frozen=True)
class Verdict:
    """What was asked, what was found, and whether that meets it."""

    asked: str
    found: str
    met: bool


def verdicts(result: Result) -> list[Verdict]:
    """All that is asked of the server."""
    tally, reloads, plan = result.tally, result.reloads, result.plan
    hung = tally.count("hung")
    wrong = tally.wrong.total()
    errors = result.complaints.total()
    bad_reloads = reloads.wrong.total()
    left = ", ".join(f"{count} {name}" for name, count in result.left.items() if count)
    asked = [
        Verdict("no request hangs", f"{hung} of {tally.acts} acts hung", hung == 0 < tally.acts),
        Verdict(
            "every answer is right, every refusal of its kind",
            f"{wrong} of {tally.acts} acts found something else",
            wrong == 0 < tally.acts,
        ),
        Verdict(
            "every reload does what it should",
            f"{bad_reloads} of {reloads.acts} did not, {plan.reloads} were planned",
            bad_reloads == 0 and reloads.acts == plan.reloads,
        ),
    ]
    samples = result.samples
    asked += [
        _flat("memory", " MB", _MB, [sample.holding.rss for sample in samples]),
        _flat("threads", "", 1.0, [sample.holding.threads for sample in samples]),
        _flat("open files", "", 1.0, [sample.holding.files for sample in samples]),
    ]
    return [
        *asked,
        Verdict(
            "the log has no traceback and no unexpected error",
            "none"
            if not errors
            else "; ".join(f"{count} x {text}" for text, count in result.complaints.items()),
            errors == 0,
        ),
        Verdict("nothing of the load is left", left or "nothing", bool(result.left) and not left),
        Verdict(
            f"idle, it uses less than {MOST_IDLE:.2%} of a core",
            f"{result.idle:.3%}",
            result.idle < MOST_IDLE,
        ),
        Verdict("SIGTERM ends it with status 0", f"status {result.status}", result.status == 0),
    ]


def _flat(name: str, unit: str, scale: float, numbers: list[int]) -> Verdict:
    first, last = thirds(numbers)
    if not first:
        return Verdict(f"{name}: flat within {FLAT:.0%}", "too few samples", False)
    change = last / first - 1.0
    found = f"{first / scale:.1f} to {last / scale:.1f}{unit}, {change:+.1%}"
    flat = abs(change) <= FLAT or abs(last - first) <= A_FEW
    return Verdict(f"{name}: flat within {FLAT:.0%}", found, flat)


def thirds(numbers: list[int]) -> tuple[float, float]:
    """The medians of the first third and of the last, after the warm-up; zeros without enough numbers."""
    warm = numbers[int(len(numbers) * WARM_UP) :]
    third = len(warm) // 3
    if not third:
        return 0.0, 0.0
    return float(statistics.median(warm[:third])), float(statistics.median(warm[-third:]))


def write_report(result: Result, folder: Path, machine: str, command: str) -> None:
    """Write soak.md, soak.csv and soak-memory.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "soak.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["seconds", "acts", "rss_bytes", "threads", "files", "cpu_seconds"])
        for sample in result.samples:
            holding = sample.holding
            row = [f"{sample.seconds:.1f}", sample.acts, holding.rss, holding.threads, holding.files]
            table.writerow([*row, f"{holding.cpu:.2f}"])
    with mpl.rc_context(STYLE):
        write_svg(_draw(result.samples), folder / "soak-memory.svg")
    (folder / "soak.md").write_text("\n".join(_lines(result, machine, command)) + "\n")


def _lines(result: Result, machine: str, command: str) -> Iterator[str]:
    plan, tally = result.plan, result.tally
    judged = verdicts(result)
    missed = [verdict for verdict in judged if not verdict.met]
    yield "# Everything at once, for a long time"
    yield ""
    yield f"Made by `{command}`. {machine}."
    yield ""
    yield f"{plan.clients} clients, one act after the other each, for {plan.seconds / 60:g} minutes, and"
    yield f"{plan.reloads} reloads, half of them noticed in the store and half asked for, every fourth"
    yield "with a broken artifact. Odd and even versions have different weights: an answer tells which"
    yield "one gave it. Answers are compared with onnxruntime's alone, bit for bit where the model's card"
    yield "promises that. Each act has a minute. Clients and server share the machine."
    yield ""
    yield f"**{len(judged) - len(missed)} of {len(judged)} met.**"
    yield ""
    yield "| asked | found | |"
    yield "| --- | --- | --- |"
    for verdict in judged:
        yield f"| {verdict.asked} | {verdict.found} | {'met' if verdict.met else '**missed**'} |"
    yield ""
    yield f"Flat: the medians of the first third and of the last after the first {WARM_UP:.0%} of the time."
    yield ""
    yield "![The server's memory over time](soak-memory.svg)"
    yield ""
    yield "## Acts"
    yield ""
    yield "| act | | share | outcomes | slowest |"
    yield "| --- | --- | ---: | --- | ---: |"
    for act in MIX:
        what = (act.__doc__ or "").partition("\n")[0]
        yield _row(act.__name__, what, tally)
    yield ""
    yield "Outcomes are HTTP statuses, or what became of the connection. 429 and 504 answer deadlines that"
    yield "could not be met, 404 versions that were just removed."
    if tally.told or result.reloads.told:
        yield ""
        yield "## What was wrong"
        yield ""
        yield from (f"- {text}" for text in [*tally.told, *result.reloads.told])
    yield ""
    yield "Numbers: [soak.csv](soak.csv), each second."


def _row(name: str, what: str, tally: Tally) -> str:
    outcomes = tally.outcomes.get(name)
    if outcomes is None:
        return f"| {name} | {what} | 0 | | |"
    told = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(outcomes.items()))
    share = outcomes.total() / tally.acts
    return f"| {name} | {what} | {share:.0%} | {told} | {tally.slowest[name]:.2f} s |"


def _draw(samples: list[Sample]) -> Figure:
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [sample.seconds / 60 for sample in samples],
        [sample.holding.rss / _MB for sample in samples],
        color=COLOURS[0],
        linewidth=0.8,
    )
    if samples:
        axes.axvspan(0.0, samples[-1].seconds / 60 * WARM_UP, color="#000000", alpha=0.06, linewidth=0)
    axes.set(xlabel="minutes", ylabel="resident memory, MB", ylim=(0.0, None))
    return figure
