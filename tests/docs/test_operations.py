"""docs/operations.md says what the code does: every setting with its default and range, every error, close
code, reason, log event and header stands there, and none that there isn't.
"""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from service.engine.statistics import FAILURES
from service.http.deadline import TIMEOUT
from service.http.headers import secured
from service.http.refusals import Refusal
from service.settings import Settings
from service.streams.registry import Kind, Reason
from service.v2.infer import HEADER_LENGTH

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SERVICE = ROOT / "service"
COMMANDS = {SERVICE / "doctor.py", SERVICE / "keys.py", *(SERVICE / "client").glob("*.py")}  # not the server
RAY = {*(SERVICE / "ray").rglob("*.py")}  # has a page of its own
TREES = {path: ast.parse(path.read_text()) for path in {*SERVICE.rglob("*.py")} - COMMANDS - RAY}
_ROW = re.compile(r"^\| `--([a-z-]+)` `(MOMENTUM_[A-Z_]+)` \| (.*?) \| (.*?) \| (.+) \|$", re.MULTILINE)
ROWS = {flag: rest for flag, *rest in _ROW.findall(PAGE)}
NAME_OF_HEADER = re.compile(r"[A-Z][A-Za-z-]*[a-z]")
NO_BOUND = {"ge": None, "gt": None, "le": None}


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    _, found, rest = PAGE.partition(f"\n{title}\n")
    assert found, title
    return re.split(r"^##+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def cells(title: str, column: int) -> set[str]:
    """What stands in a column of a section's table as code."""
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("| ")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row[column])}


def calls(name: str) -> Iterator[ast.Call]:
    """The calls of a function, a method or a class, in the server's code."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name == getattr(
                node.func, "id", getattr(node.func, "attr", None)
            ):
                yield node


def literal(node: ast.AST) -> Any:
    """What a constant in the code is, None of what is computed."""
    if isinstance(node, ast.Attribute) and is_status(node):
        return int(HTTPStatus[node.attr])
    return node.value if isinstance(node, ast.Constant) else None


def is_status(node: ast.AST) -> bool:
    """Whether it is HTTPStatus.SOMETHING."""
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "HTTPStatus"


def table(file: str, name: str) -> list[Any]:
    """The constants that are the values of a dictionary in the code."""
    for node in TREES[SERVICE / file].body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(value) for value in node.value.values]
    raise AssertionError(name)


def default_of(name: str) -> str:
    value = Settings.model_fields[name].default
    if value is None or value == []:
        return "none"
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    kind = Settings.model_fields[name].annotation
    return f"`{kind(value) if kind in (int, float) else value}`"


def range_of(name: str) -> str | None:
    """As the page tells it, None if the setting is no number."""
    field = Settings.model_fields[name]
    if field.annotation not in (int, float, int | None):
        return None
    bounds = dict(NO_BOUND)
    for constraint in field.metadata:
        bounds |= {bound: getattr(constraint, bound) for bound in NO_BOUND if hasattr(constraint, bound)}
    if bounds["le"] is not None:
        return f"{bounds['ge']} to {bounds['le']}"
    return f"from {bounds['ge']}" if bounds["gt"] is None else f"above {bounds['gt']}"


def test_every_setting_is_on_the_page_and_no_other() -> None:
    assert list(ROWS) == [name.replace("_", "-") for name in Settings.model_fields]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_has_its_variable_default_and_range(name: str) -> None:
    variable, default, unit, text = ROWS[name.replace("_", "-")]
    assert variable == f"MOMENTUM_{name.upper()}"
    assert default == default_of(name)
    wanted = range_of(name)
    assert wanted is None or re.search(rf"(^|, | ){wanted}$", unit), f"{unit}, not {wanted}"
    assert text.strip()


def test_no_setting_is_mentioned_that_there_is_not() -> None:
    flags = {name.replace("_", "-") for name in Settings.model_fields}
    # of doctor, of `keys new`, and of docker
    others = {"json", "file", "scope", "rate", "burst", "time"}
    assert set(re.findall(r"--([a-z][a-z-]+)", PAGE)) - others <= flags
    variables = {f"MOMENTUM_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"MOMENTUM_[A-Z_]+[A-Z]", PAGE)) <= variables


def test_every_type_of_problem_is_on_the_page_and_no_other() -> None:
    titles = {literal(call.args[1]) for call in calls("Problem")} - {None}
    titles |= {title for _, title in table("http/failures.py", "_KINDS")}
    assert len(titles) > 20
    assert cells("## Errors", 1) - {"/v2"} == {title.lower().replace(" ", "-") for title in titles}


def test_every_status_is_on_the_page() -> None:
    statuses = {literal(call.args[0]) for name in ("Problem", "StatusProblem") for call in calls(name)}
    statuses |= {literal(call.args[1]) for call in calls("_refuse") if len(call.args) > 2}
    statuses |= {status for status, _ in table("http/failures.py", "_KINDS")}
    statuses |= {*table("v2/routes.py", "_STATUSES")}
    statuses |= {literal(node) for tree in TREES.values() for node in ast.walk(tree) if is_status(node)}
    statuses -= {None, 201}
    assert {400, 401, 408, 413, 426, 431, 503, 504} <= statuses
    told = {int(number) for number in re.findall(r"^\| (\d{3})\b", section("## Errors"), re.MULTILINE)}
    assert statuses <= told


def test_every_reason_of_a_refusal_and_of_a_failure_is_on_the_page_and_no_other() -> None:
    assert cells("## Errors", 2) == {*Refusal, *FAILURES}


def test_every_error_of_a_live_stream_is_on_the_page_with_its_close_code() -> None:
    rows = re.findall(r"^\| (\d{4}) \| (.*?) \|", section("### Close codes of live streams"), re.MULTILINE)
    told = {(int(number), code) for number, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    failures = {(literal(call.args[1]), literal(call.args[0])) for call in calls("Failure")}
    assert len(failures) > 15
    assert told == failures


def test_every_event_of_the_log_is_on_the_page_and_no_other() -> None:
    events = {
        literal(call.args[0])
        for level in ("debug", "info", "warning", "error", "exception")
        for call in calls(level)
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "log"
    } - {None}
    events |= {"request"}  # which is logged by a level that is chosen before
    assert len(events) > 20
    assert cells("## The log", 0) == events | {*Kind}
    ended = {*Reason} - {Reason.TAKEN_OVER}  # of a connection only
    assert ended <= set(re.findall(r"`([a-z]+)`", section("## The log")))


def test_every_header_that_is_read_is_on_the_page() -> None:
    told = section("### Of requests").lower()
    read = {literal(call.args[1]).decode() for call in calls("header") if literal(call.args[1])}
    read |= {
        literal(call.args[0])
        for call in calls("get")
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "request.headers"
    }
    assert {"authorization", "x-request-id", "origin", "accept", "if-none-match"} <= read
    assert {name for name in read if f"`{name}" not in told} == set()
    assert f"`{HEADER_LENGTH}`" in section("### Of requests")
    assert f"`{TIMEOUT}`" in section("### Of requests")


def test_every_header_that_is_sent_is_on_the_page() -> None:
    told = section("### Of answers").lower()
    sent = {name.decode() for name, _ in secured([], "/")} | {HEADER_LENGTH.lower()}
    for tree in TREES.values():
        for node in ast.walk(tree):
            keys = [key and literal(key) for key in node.keys] if isinstance(node, ast.Dict) else []
            if keys and all(isinstance(key, str) and NAME_OF_HEADER.fullmatch(key) for key in keys):
                sent |= {str(key).lower() for key in keys}
    assert {"retry-after", "www-authenticate", "etag", "upgrade", "connection"} <= sent
    assert {name for name in sent if f"`{name}" not in told} == set()


def test_the_metrics_to_watch_are_those_of_the_metrics_page() -> None:
    known = (ROOT / "docs" / "metrics.md").read_text()
    names = set(re.findall(r"\b(?:momentum|process)_[a-z_]+[a-z]\b", PAGE))
    assert len(names) > 15
    assert {name for name in names if f"| `{name}` |" not in known} == set()


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        page = (ROOT / "docs" / file).read_text() if file else PAGE
        anchors = {
            re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
        }
        assert not anchor or anchor in anchors, target
