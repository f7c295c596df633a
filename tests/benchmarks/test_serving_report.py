"""The report's arithmetic, and that it tells what was missed or could not be measured."""

import csv
from pathlib import Path

import pytest

from benchmarks.serving import raw
from benchmarks.serving.outcome import OK, REJECTED, Outcome
from benchmarks.serving.report import write_report
from benchmarks.serving.results import Lone, Overload, Results, Row, Target, targets
from benchmarks.serving.servers import OURS, SERVERS
from benchmarks.serving.wrk import Load

BY_NAME = {server.name: server for server in SERVERS}


def one_pass(best: float, alone: float) -> raw.Pass:
    rates = {(threads, batch): best / 2 for threads in raw.THREADS for batch in raw.BATCHES}
    return rates | {(2, 4): best, (1, 8): 2 * best, (1, 1): alone}


def row(name: str, payload: str, connections: int, rate: float, cpu: float = 2.0) -> Row:
    load = Load(int(rate * 10), 10.0, 1.0, 2.0, 0)
    return Row(BY_NAME[name], payload, connections, load, cpu, 0.5)


def results(rows: list[Row]) -> Results:
    return Results(["Made so."], raw.Raw([one_pass(900, 400), one_pass(1100, 600)]), rows)


def overload(good: int, rejected: int, other: int, took: float = 0.5) -> Overload:
    outcome = Outcome(10.0, good + rejected + other)
    for number in range(good):
        outcome.answered(OK, None, number * 10 / good, number * 10 / good + took)
    for _ in range(rejected):
        outcome.answered(REJECTED, b"2", 5.0, 5.1)
    for _ in range(other):
        outcome.answered("503", None, 5.0, 5.1)
    return Overload(100.0, 300.0, outcome)


def verdicts(measured: Results) -> dict[str, Target]:
    return {target.text: target for target in targets(measured)}


def test_raw_is_the_mean_of_the_passes_bests_with_two_threads() -> None:
    measured = raw.Raw([one_pass(900, 400), one_pass(1100, 600)])
    assert (measured.best, measured.alone) == (1000, 500)


def test_a_pass_has_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "BATCHES", (1, 2))
    from benchmarks.serving.digits import Digits
    from benchmarks.serving.payloads import samples
    from exports.store import DEFAULT_STORE, read_card

    graph = read_card(DEFAULT_STORE, "digits")[0] / "model.onnx"
    measured = raw.measure([Digits(graph), Digits(graph)], samples()[0].pixels[None], 0.05)
    assert set(measured) == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert min(measured.values()) > 0


def test_shares_are_of_raw_and_of_a_lone_loop() -> None:
    found = verdicts(
        results(
            [
                row(OURS, "v2-binary", 64, 800),
                row(OURS, "json", 64, 699),
                row(OURS, "v2-binary", 1, 450),
            ]
        )
    )
    assert found["v2-binary, connections: 64: at least 0.80 of raw onnxruntime's best"].met
    missed = found["json, connections: 64: at least 0.70 of raw onnxruntime's best"]
    assert (missed.figure, missed.met) == ("0.70", False)
    assert found["v2-binary, connections: 1: at least 0.90 of a lone `session.run()` loop"].met
    unmeasured = found["v2-binary, connections: 16: at least 0.60 of raw onnxruntime's best"]
    assert (unmeasured.figure, unmeasured.met) == ("not measured", None)


def test_ahead_means_ahead_of_the_fastest_in_whatever_payload() -> None:
    rows = [row(OURS, "v2-binary", 1, 450), row(OURS, "json", 1, 400)]
    rows += [row("fastapi", "raw", 1, 420), row("fastapi", "json", 1, 300), row("torchserve", "raw", 1, 90)]
    found = verdicts(results(rows))
    assert found["v2-binary, connections: 1: ahead of every peer"].met
    behind = found["json, connections: 1: ahead of every peer"]
    assert (behind.figure, behind.met) == ("400/s, fastapi (raw) 420/s", False)
    assert verdicts(results(rows[:2]))["json, connections: 1: ahead of every peer"].met is None


@pytest.mark.parametrize(("took", "met"), [(2.39, True), (2.41, False)])
def test_a_lone_request_is_compared_with_a_run(took: float, met: bool) -> None:
    measured = results([])
    measured.lone = Lone(2.0, {"v2-binary": took})
    assert verdicts(measured)["a lone v2-binary request: within 0.4 ms of raw onnxruntime"].met is met


@pytest.mark.parametrize(("cores", "met"), [(0.0004, True), (0.0006, False)])
def test_idle_is_what_rounds_to_nothing(cores: float, met: bool) -> None:
    measured = results([])
    measured.idle = cores
    assert verdicts(measured)["idle, 0.0 % of a core"].met is met


@pytest.mark.parametrize(
    ("what", "met"),
    [
        (overload(960, 2040, 0), [True, True, True]),
        (overload(940, 2060, 0), [False, True, True]),
        (overload(960, 2039, 1), [True, True, False]),
        (overload(960, 2040, 0, took=1.1), [False, False, True]),
        (overload(0, 3000, 0), [False, False, True]),
    ],
)
def test_overload(what: Overload, met: list[bool]) -> None:
    measured = results([])
    measured.overload = what
    assert [target.met for target in targets(measured)[-3:]] == met


def test_the_report_tells_all(tmp_path: Path) -> None:
    measured = results([row("fastapi", "raw", 1, 420), row(OURS, "v2-binary", 1, 450, cpu=9.0)])
    measured.failures["ray"] = "it does not answer"
    measured.lone = Lone(2.0, {"v2-binary": 2.3})
    measured.idle = 0.0001
    measured.overload = overload(960, 2040, 7)
    write_report(measured, tmp_path)
    report = (tmp_path / "serving.md").read_text()
    for line in (
        "| a lone v2-binary request: within 0.4 ms of raw onnxruntime | 0.30 ms over 2.00 ms | met |",
        "| overload: every rejection a 429 with Retry-After | 7 of 3007 something else | **missed** |",
        "**ray was not measured, or not to the end:** it does not answer.",
        "| fastapi | 0.165.0 | 2 uvicorn workers, no batching "
        "| raw | 1 | 420 | 1.0 | 2.0 | 0.42 | 0.84 | 0.48 | 0.20 | 0 |",
        "| 503 | 7 |",
        "| 4 | 450, 900 | 550, 1100 |",
    ):
        assert line in report.splitlines()
    with (tmp_path / "serving.csv").open() as file:
        numbers = list(csv.DictReader(file))
    assert numbers[1]["server"] == OURS
    assert float(numbers[1]["cpu_ms"]) == 2.0
    assert float(numbers[1]["of_raw"]) == 0.45
    assert len(numbers) == 2 + 2 * len(raw.BATCHES) * len(raw.THREADS)
    assert (tmp_path / "serving.svg").stat().st_size > 1000
    assert (tmp_path / "serving-overload.svg").stat().st_size > 1000
