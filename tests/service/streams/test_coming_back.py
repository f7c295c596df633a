"""Streams whose connections are lost, taken over, or never come back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.stream_client import Closed, StreamClient
from tests.service.streams.heard import CHUNK, closing_lines, heard, pcm, stream_whole

AUDIO = pcm(20_000).tobytes()


@settings(max_examples=30)
@given(
    size=st.sampled_from([100, 1601, 4000, CHUNK]),
    losses=st.lists(
        st.tuples(
            st.sampled_from(["cut", "close", "stay"]),
            st.integers(0, len(AUDIO)),  # how much is sent before
            st.integers(1, 10),  # after how many chunks each time what has arrived is read
        ),
        max_size=6,
    ),
)
def test_a_connection_may_be_lost_at_any_moment(
    live: Any, size: int, losses: list[tuple[str, int, int]]
) -> None:
    """Nothing is lost, nothing comes twice, and the messages are those of an undisturbed stream."""
    messages: list[dict[str, Any]] = []
    token, sent = None, 0
    with ExitStack() as clients:
        for ending, until, pause in [*losses, ("finish", len(AUDIO), 10)]:
            client = clients.enter_context(StreamClient(live.address))
            if token is None:
                token = client.start(probabilities=True)["resume"]
            else:
                client.send({"type": "resume", "token": token})
                resumed = client.message()
                assert (resumed["type"], resumed["resume"]) == ("resumed", token)
                assert 2 * resumed["samples"] <= sent
                sent = 2 * resumed["samples"]
            for number, start in enumerate(range(sent, until, size), 1):
                sent = min(start + size, until)
                client.send(AUDIO[start:sent])
                if number % pause == 0:
                    messages += client.arrived()
            if sent == len(AUDIO):
                client.send({"type": "finish"})
            if ending == "finish":
                more, closed = client.rest()
                messages += more
                assert closed == Closed(1000, "finished")
            elif ending == "cut":
                client.cut()
            elif ending == "close":
                client.socket.close()
            token = messages[-1]["resume"] if messages else token
    with StreamClient(live.address) as client:
        undisturbed = stream_whole(client, np.frombuffer(AUDIO, "<i2"), 1600, probabilities=True)
    assert heard(messages) == heard(undisturbed)


def test_a_second_connection_takes_over(live: Any, connect: Callable[[], StreamClient]) -> None:
    with connect() as first, connect() as second:
        started = first.start()
        first.send(bytes(1600))
        token = first.message()["resume"]
        second.send({"type": "resume", "token": token})
        assert second.message()["samples"] == 800
        error, closed = first.error()
        assert (error["code"], closed) == ("taken_over", 4409)
        assert "resume" not in error
        second.send(bytes(1600))
        assert second.message()["start"] == 10
        second.send({"type": "finish"})
        assert second.rest()[0][-1]["frames"] == 20
    outcomes = [line["outcome"] for line in closing_lines(live, started["stream"]) if "outcome" in line]
    assert outcomes[0] == "taken_over"


def test_the_result_can_be_fetched_later(connect: Callable[[], StreamClient]) -> None:
    with connect() as client:
        token = client.start()["resume"]
        client.send(pcm(8000).tobytes())
        client.send({"type": "finish"})
        answers = [client.rest()]
    for again in (False, True):
        with connect() as client:
            client.send({"type": "resume", "token": token})
            if again:  # as a client does that does not know what arrived
                client.send({"type": "finish"})
            resumed = client.message()
            assert (resumed["samples"], resumed["frames"], resumed["finished"]) == (8000, 100, True)
            answers.append(client.rest())
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0][-1]["type"] == "result"


def test_messages_that_are_not_kept(serve: Any, small_store: Path) -> None:
    with serve("--store", small_store, "--stream-replay-bytes", 0) as server:
        with StreamClient(server.address) as client:
            token = client.start()["resume"]
            for _ in range(3):
                client.send(bytes(1600))
                newest = client.message()["resume"]
        with StreamClient(server.address) as client:
            client.send({"type": "resume", "token": token})
            error, closed = client.error()
            assert (error["code"], closed) == ("messages_gone", 4410)
            assert error["detail"].startswith("the token is that of message 0; those after ")
        with StreamClient(server.address) as client:
            client.send({"type": "resume", "token": newest})
            assert client.message()["samples"] == 2400


def test_a_connection_that_begins_nothing(hasty: Any) -> None:
    with StreamClient(hasty.address) as client:
        error, closed = client.error()
    assert (error["code"], closed) == ("start_timeout", 4408)
    assert error["detail"] == "there was no message for 0.2 seconds"


def test_a_stream_without_audio_ends(hasty: Any) -> None:
    with StreamClient(hasty.address) as client:
        started = client.start()
        client.send(bytes(1600))
        client.message()
        error, closed = client.error()
    assert (error["code"], closed) == ("idle", 4408)
    assert "resume" not in error
    with StreamClient(hasty.address) as client:
        client.send({"type": "resume", "token": started["resume"]})
        error, closed = client.error()
    assert (error["code"], closed) == ("unknown_stream", 4404)
    assert error["detail"].endswith("it got no audio for 0.4 s")
    lines = closing_lines(hasty, started["stream"])
    assert [line["reason"] for line in lines if line["event"] == "stream"] == ["idle"]


def test_a_stream_that_nobody_resumes_ends(hasty: Any) -> None:
    with StreamClient(hasty.address) as client:
        started = client.start()
    lines = closing_lines(hasty, started["stream"])
    assert [line.get("outcome", line.get("reason")) for line in lines] == ["dropped", "expired"]
    with StreamClient(hasty.address) as client:
        client.send({"type": "resume", "token": started["resume"]})
        error, _ = client.error()
    assert error["detail"].endswith("it had no connection for 0.3 s")


def test_too_many_streams_are_told_when_to_try_again(serve: Any, small_store: Path) -> None:
    with (
        serve("--store", small_store, "--max-streams", 1) as server,
        StreamClient(server.address) as first,
    ):
        first.start()
        with StreamClient(server.address) as second:
            error = second.start()
            assert second.receive() == Closed(1013, "too_many_streams")
        assert (error["code"], error["retry_seconds"]) == ("too_many_streams", 5)
        assert error["detail"] == "1 streams are open, as many as this server takes"
        first.send({"type": "finish"})
        first.rest()
        with StreamClient(server.address) as second:
            assert second.start()["type"] == "started"
