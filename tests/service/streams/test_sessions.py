"""Who may start a stream, who may go on with it, and when it is given up: with a clock that obeys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from service.engine.store import Model
from service.settings import Settings
from service.streams import registry
from service.streams.outbox import MessagesGoneError
from service.streams.registry import Kind, Reason, Registry, TooManyStreamsError
from service.streams.session import Session
from service.streams.sessions import Sessions, UnknownTokenError
from tests.service.engine.fakes import FakeClock
from tests.service.streams.fakes import FakeEngine

IDLE, RESUME, MOST = 10, 7, 4
SETTINGS = Settings(
    max_streams=MOST, stream_idle_seconds=IDLE, stream_resume_seconds=RESUME, stream_replay_bytes=0
)
HOP = np.zeros(80, "<i2").tobytes()


class Connection:
    def __init__(self) -> None:
        self.reason: Reason | None = None

    def notify(self) -> None:
        pass

    def end(self, reason: Reason) -> None:
        assert self.reason is None
        self.reason = reason


class World:
    """Sessions, and what surrounds them."""

    def __init__(self, model: Model, settings: Settings = SETTINGS) -> None:
        self.model = model
        self.clock = FakeClock()
        self.engine = FakeEngine(model)
        self.registry = Registry(settings.max_streams, lambda: self.clock)
        self.sessions = Sessions(
            self.engine,  # type: ignore[arg-type]
            settings,
            self.registry,
            lambda: self.clock,
        )

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)

    def open(self) -> tuple[Session, Connection]:
        session = self.sessions.open(self.model, "pcm16", 8000, posteriors=False)
        connection = Connection()
        self.sessions.attach(session, connection, 0)
        return session, connection

    def find(self, session: Session) -> str | None:
        """Why the stream can't be found, None if it can be."""
        try:
            assert self.sessions.find(session.outbox.token(0)) == (session, 0)
        except UnknownTokenError as error:
            return str(error)
        return None


@pytest.fixture
def world(model: Model) -> World:
    return World(model)


def test_no_more_streams_than_allowed(world: World) -> None:
    streams = [world.open() for _ in range(MOST)]
    with pytest.raises(TooManyStreamsError, match="4 streams are open, as many as this server takes"):
        world.open()
    world.registry.end(streams[0][0], Reason.FAILED)
    world.open()
    assert world.registry.opened == {Kind.LIVE: MOST + 1}
    assert world.registry.rejected == {Kind.LIVE: 1}
    assert world.registry.ended == {(Kind.LIVE, Reason.FAILED): 1}


def test_finished_streams_leave_room_and_the_oldest_are_forgotten(world: World) -> None:
    finished = []
    for _ in range(MOST + 2):
        session, connection = world.open()
        session.finish()
        world.sessions.detach(session, connection)
        finished.append(session)
    assert len(world.registry) == 0
    assert [world.find(session) is None for session in finished] == [False] * 2 + [True] * MOST


def test_idle_streams_end(world: World) -> None:
    session, connection = world.open()
    world.wait(4)
    session.feed(HOP[:10])
    world.wait(IDLE - 1)
    assert connection.reason is None
    world.wait(1)
    assert connection.reason is Reason.IDLE
    assert world.find(session) == "the stream ended 0 seconds ago: it got no audio for 10 s"


def test_idleness_counts_from_the_last_finished_work(world: World) -> None:
    session, connection = world.open()
    session.feed(HOP)
    world.wait(5 * IDLE)  # a slow engine
    assert connection.reason is None
    world.engine.run()
    world.wait(IDLE - 1)
    assert connection.reason is None
    world.wait(IDLE)  # the timer comes when it could have been over, and once more
    assert connection.reason is Reason.IDLE


def test_dropped_streams_are_kept_for_a_while(world: World) -> None:
    session, connection = world.open()
    world.wait(4)
    world.sessions.detach(session, connection)
    world.wait(RESUME - 1)
    assert world.find(session) is None
    world.wait(2)
    assert world.find(session) == "the stream ended 1 seconds ago: it had no connection for 7 s"
    assert connection.reason is None


def test_coming_back_counts_from_then(world: World) -> None:
    session, first = world.open()
    world.sessions.detach(session, first)
    world.wait(RESUME - 1)
    second = Connection()
    world.sessions.attach(session, second, 0)
    world.wait(IDLE - 1)
    assert second.reason is None
    world.wait(1)
    assert second.reason is Reason.IDLE


def test_a_second_connection_takes_over(world: World) -> None:
    session, first = world.open()
    second = Connection()
    world.sessions.attach(session, second, 0)
    assert (first.reason, second.reason) == (Reason.TAKEN_OVER, None)
    world.sessions.detach(session, first)
    assert session.listener is second
    assert session.connections == 2
    assert world.registry.resumed == 1


def test_a_finished_stream_is_kept_for_its_result(world: World) -> None:
    session, connection = world.open()
    session.feed(HOP)
    session.finish()
    world.wait(100)
    world.engine.run()
    assert session.finished
    assert connection.reason is None
    world.wait(RESUME - 1)
    world.sessions.detach(session, connection)
    world.wait(RESUME - 1)
    assert world.find(session) is None
    world.wait(1)
    assert (
        world.find(session)
        == "the stream ended 0 seconds ago: it was finished, and its result was kept for 7 s"
    )


def test_a_failed_attachment_leaves_the_stream_as_it_is(world: World) -> None:
    session, connection = world.open()
    with pytest.raises(MessagesGoneError):
        world.sessions.attach(session, Connection(), 5)
    assert session.listener is connection
    assert connection.reason is None


def test_why_streams_ended_is_not_remembered_forever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REMEMBERED", 2)
    ended = [world.open()[0] for _ in range(3)]
    for session in ended:
        world.registry.end(session, Reason.FAILED)
    told = [world.find(session) or "" for session in ended]
    assert told[0].startswith("no stream has this token")
    assert told[1:] == ["the stream ended 0 seconds ago: the reason was: failed"] * 2


def test_shutdown_ends_all(world: World) -> None:
    session, connection = world.open()
    session.feed(HOP)
    done, _ = world.open()
    done.finish()
    world.registry.shutdown()
    assert connection.reason is Reason.SHUTDOWN
    assert len(world.registry) == 0
    assert world.engine.waiting == []
    assert world.clock.pending == 0
    assert world.find(done) == "the stream ended 0 seconds ago: the reason was: shutdown"


NUMBERS = ["", "-1", "x", "²", "9" * 13]


@pytest.mark.parametrize("ended", [False, True])
def test_other_tokens_are_unknown(world: World, ended: bool) -> None:
    session, _ = world.open()
    token = session.outbox.token(0)
    name, secret, _ = token.split(".")
    if ended:
        world.registry.end(session, Reason.FAILED)
    tokens = ["", ".", "..", "x", "ä.ö.1", name, f"{name}.0", f"{name}.{secret}", f"{token}.0"]
    tokens += [f"{name}.{other}.0" for other in ("", "A" * len(secret), secret[:-1], "\ud800", "ö")]
    for wrong in tokens:
        with pytest.raises(UnknownTokenError, match="no stream has this token"):
            world.sessions.find(wrong)
    for number in NUMBERS:
        with pytest.raises(UnknownTokenError, match="the reason was: failed" if ended else "no stream has"):
            world.sessions.find(f"{name}.{secret}.{number}")


class SessionsMachine(RuleBasedStateMachine):
    """Streams live and time passes; which are given up, and why, is told by a few lines here."""

    model: Model

    def __init__(self) -> None:
        super().__init__()
        self.touched: dict[str, float] = {}  # of those that live
        self.connected: dict[str, Connection] = {}

    @initialize(idle=st.integers(1, 12), resume=st.integers(1, 12))
    def start(self, idle: int, resume: int) -> None:
        self.idle, self.resume = idle, resume
        settings = SETTINGS.model_copy(update={"stream_idle_seconds": idle, "stream_resume_seconds": resume})
        self.world = World(self.model, settings)

    streams = Bundle("streams")

    @rule(target=streams)
    def open(self) -> Any:
        if len(self.world.registry) == MOST:
            with pytest.raises(TooManyStreamsError):
                self.world.open()
            return multiple()
        session, connection = self.world.open()
        self.touched[session.name] = self.world.clock.now
        self.connected[session.name] = connection
        return session

    @rule(session=streams, size=st.integers(0, 200))
    def feed(self, session: Session, size: int) -> None:
        if session.name in self.connected and not session.finishing:
            session.feed(bytes(size))
            if size:
                self.touched[session.name] = self.world.clock.now

    @rule()
    def run(self) -> None:
        while self.world.engine.waiting:
            waiting = {request.done.__self__.name for request in self.world.engine.waiting}  # type: ignore[attr-defined]
            self.world.engine.run()
            self.touched |= dict.fromkeys(waiting & self.touched.keys(), self.world.clock.now)

    @rule(session=streams)
    def drop(self, session: Session) -> None:
        connection = self.connected.pop(session.name, None)
        if connection is not None:
            self.world.sessions.detach(session, connection)
            self.touched[session.name] = self.world.clock.now

    @rule(session=streams)
    def come_back(self, session: Session) -> None:
        if session.name in self.touched:
            before = self.connected.get(session.name)
            self.connected[session.name] = Connection()
            self.world.sessions.attach(session, self.connected[session.name], session.outbox.sent)
            self.touched[session.name] = self.world.clock.now
            assert before is None or before.reason is Reason.TAKEN_OVER

    @rule(seconds=st.integers(0, 14))
    def wait(self, seconds: int) -> None:
        self.world.wait(seconds)

    @invariant()
    def the_right_ones_live(self) -> None:
        now = self.world.clock.now
        open_ = self.world.registry._open
        for name in [*self.touched]:
            connection = self.connected.get(name)
            over = now >= self.touched[name] + (self.resume if connection is None else self.idle)
            busy = name in open_ and open_[name].busy
            if over and not busy and name not in open_:
                assert connection is None or connection.reason is Reason.IDLE
                del self.touched[name]
                self.connected.pop(name, None)
            else:
                assert name in open_
                assert connection is None or connection.reason is None
                # It may live a little longer than it need, but not much: work that ended moves the time.
                assert busy or now < self.touched[name] + 2 * max(self.idle, self.resume)
        assert open_.keys() == self.touched.keys()
        assert self.world.clock.pending == len(open_)


@pytest.mark.usefixtures("small_store")
class TestSessions(SessionsMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = hypothesis_settings(max_examples=60)

    @pytest.fixture(autouse=True)
    def load(self, model: Model) -> None:
        SessionsMachine.model = model
