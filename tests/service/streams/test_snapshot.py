"""Documents of streams that nobody can trust: a stream goes on from one, or it is refused with a reason."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.store import Model
from service.settings import Settings
from service.streams.outbox import FULL
from service.streams.registry import Reason, Registry
from service.streams.session import Session
from service.streams.sessions import Sessions, StreamExistsError
from service.streams.snapshot import InvalidSnapshotError, Snapshot
from tests.service import small_frames
from tests.service.engine.fakes import FakeClock
from tests.service.streams.fakes import FakeEngine
from tests.service.streams.heard import pcm


class World:
    """A stream that has heard something, has audio pending and is being run, and the document of it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.engine = FakeEngine(model)
        clock = FakeClock()
        self.registry = Registry(1000, lambda: clock)
        self.sessions = Sessions(self.engine, Settings(), self.registry, lambda: clock)  # type: ignore[arg-type]
        self.session = self.sessions.open(model, "pcm16", 8000, posteriors=True)
        for start in range(0, 12_000, 4000):
            self.session.feed(pcm(12_345)[start : start + 4000].tobytes())
            if start < 8000:
                self.engine.run()
        self.document = json.loads(self.session.snapshot(0).dump())["snapshot"]

    def adopt(self, snapshot: Any, name: str | None = None) -> Session:
        digest = hashlib.sha256(orjson.dumps(snapshot, option=orjson.OPT_SORT_KEYS)).hexdigest()
        loaded = Snapshot.load(orjson.dumps({"sha256": digest, "snapshot": snapshot}))
        return self.sessions.adopt(name or f"s{len(self.registry)}", self.model, loaded)


@pytest.fixture
def world(model: Model) -> World:
    return World(model)


def test_what_is_being_heard_is_pending(world: World) -> None:
    assert world.session.busy
    document = world.document
    assert document["progress"]["frames"] == 100
    assert document["pending"]["shape"] == [4000]
    assert document["samples"] == 12_000
    assert world.adopt(document).busy


def test_one_with_more_to_say_than_is_sent_at_once_goes_on(world: World) -> None:
    """Its client has most of that already: there is room again when it comes back."""
    session, outbox = world.session, world.session.outbox
    world.engine.run()
    while sum(map(len, outbox.after(outbox.kept))) < FULL:
        session.feed(bytes(8000))
        world.engine.run()
        while outbox.next() is not None:
            session.mark_sent()
    newest = outbox.sent
    session.feed(bytes(8000))
    session.finish()
    adopted = world.sessions.adopt("other", world.model, Snapshot.load(session.snapshot(outbox.kept).dump()))
    assert (adopted.outbox.full, adopted.busy) == (True, False)
    world.sessions.attach(adopted, Listening(), newest)
    world.engine.run()
    assert adopted.finished


def test_more_messages_than_a_server_keeps_are_refused(world: World) -> None:
    world.engine.run()
    document = json.loads(world.session.snapshot(0).dump())["snapshot"]
    document["messages"] *= 1 + (Settings().stream_replay_bytes + 2 * FULL) // len(
        "".join(document["messages"])
    )
    with pytest.raises(InvalidSnapshotError, match="bytes of messages; expected at most"):
        world.adopt(document)


class Listening:
    """A connection that has nothing to do."""

    def notify(self) -> None:
        pass

    def end(self, reason: Reason) -> None:
        pass


def test_a_stream_that_ended_is_not_gone_on_with_under_its_name(world: World) -> None:
    name = world.session.name
    with pytest.raises(StreamExistsError, match=f"there is a stream {name} here"):
        world.adopt(world.document, name)
    world.registry.end(world.session, Reason.FAILED)
    with pytest.raises(StreamExistsError, match="ended here 0 seconds ago: the reason was: failed"):
        world.adopt(world.document, name)
    assert world.adopt(world.document).samples == 12_000  # but as a copy


def test_it_is_small(world: World) -> None:
    """But for the messages that the client may lack, and audio that waits."""
    newest = world.session.outbox.after(0)
    assert json.loads(world.session.snapshot(len(newest)).dump())["snapshot"]["messages"] == []
    world.engine.run()
    assert len(world.session.snapshot(len(newest)).dump()) < 10_000


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where all the values in a document are."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in paths(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=9),
        st.sampled_from([0, 1, -1, 1e308, 10**12, "", "AAAA", [], {}, [1, 4], '{"type":"frames"}']),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("item", ["[]", '{"":[]}', "1", '"a"', '"{}"', "[1,1,1,1,1,1,1,1,1]"])
@pytest.mark.parametrize("path", [("messages",), ("states",), ("more",), ("progress", "totals"), ("stream",)])
def test_what_is_wrong_a_million_times_takes_no_time(world: World, item: str, path: tuple[str, ...]) -> None:
    """The event loop waits for it."""
    many = json.loads(f"[{','.join([item] * (1_500_000 // (len(item) + 1)))}]")
    document = replaced(world.document | {"more": []}, path, many)
    started = time.process_time()
    with pytest.raises(InvalidSnapshotError):
        world.adopt(document)
    assert time.process_time() - started < 1


@given(data=st.data(), new=JSON)
def test_any_value_in_the_place_of_another(model: Model, data: st.DataObject, new: Any) -> None:
    world = World(model)
    path = data.draw(st.sampled_from(paths(world.document)))
    try:
        session = world.adopt(replaced(world.document, path, new))
    except InvalidSnapshotError:
        return
    session.feed(bytes(1600))
    session.finish()
    while world.engine.waiting:
        world.engine.run()
    assert session.finished


@given(document=st.one_of(st.binary(max_size=50), JSON.map(orjson.dumps)))
def test_anything_else(document: bytes) -> None:
    with pytest.raises(InvalidSnapshotError):
        Snapshot.load(document)


def array(name: str, value: Any, dtype: str = "float32") -> dict[str, Any]:
    tensor = np.asarray(value, dtype)
    data = base64.b64encode(tensor.tobytes()).decode()
    return {"name": name, "dtype": dtype, "shape": list(tensor.shape), "data": data}


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "a later schema": (lambda d: d.update(schema_version=2), "schema_version: Input should be 1"),
    "a field too many": (lambda d: d.update(x=1), "x: Extra inputs are not permitted"),
    "a name with a dot": (lambda d: d.update(stream="a.b"), "stream: String should match pattern"),
    "no states": (lambda d: d.update(states=[]), "it has the states ; expected rest, pending, total"),
    "a state of NaN": (
        lambda d: d["states"].__setitem__(2, array("total", [[np.nan]])),
        "total has NaN or infinity",
    ),
    "a state of another type": (
        lambda d: d["states"].__setitem__(1, array("pending", [0])),
        r"pending is float32 \[1\]; expected int32 \[1\]",
    ),
    "a state of two rows": (
        lambda d: d["states"].__setitem__(2, array("total", [[0], [0]])),
        r"total is float32 \[2, 1\]; expected float32 \[1, 1\]",
    ),
    "half a state": (
        lambda d: d["states"][2].update(data="AAA="),
        "the data of total are not a tensor's: buffer size",
    ),
    "a state in letters": (
        lambda d: d["states"][2].update(data="?"),
        "the data of total are not a tensor's:",
    ),
    "loud audio": (
        lambda d: d.update(pending=array("pending", np.full(4000, 2.0))),
        "pending has samples beyond full scale",
    ),
    "audio that was never taken": (
        lambda d: d.update(samples=12_001),
        "12001 samples were taken; expected 80 for each of 100 frames and 4000 pending ones",
    ),
    "a resampler": (
        lambda d: d.update(sample_rate=16_000),
        "the audio has 16000 samples a second; expected 8000",
    ),
    "classes of another model": (
        lambda d: d["progress"].update(totals=[1.0]),
        f"progress is not that of {len(small_frames.LABELS)} classes",
    ),
    "a class that there is not": (
        lambda d: d["progress"].update(open=3),
        "progress is not that of 3 classes",
    ),
    "totals that add up to infinity": (
        lambda d: d["progress"].update(totals=[1.7e308] * 3),
        "progress is not that of 3 classes",
    ),
    "a message of another protocol": (
        lambda d: d.update(messages=['{"type":"error"}']),
        "message 1 is none that a stream sends",
    ),
    "a message that is none": (lambda d: d.update(messages=["{"]), "message 1 is not JSON"),
    "a message of two": (
        lambda d: d.update(messages=[' {"type":"frames"}']),
        "message 1 is none that a stream sends",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be(world: World, name: str) -> None:
    change, message = WRONG[name]
    change(world.document)
    with pytest.raises(InvalidSnapshotError, match=message):
        world.adopt(world.document)
    assert len(world.registry) == 1
