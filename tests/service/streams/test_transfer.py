"""Streams move from server to server, and become two, without a word lost or said twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.http.keys import Access, add
from tests.service.stream_client import Closed, StreamClient
from tests.service.streams.heard import heard, pcm, stream_whole

ELSEWHERE = {"Host": "speech.example"}  # programs on `here`'s machine may do what administrators may
AUDIO = pcm(20_000).tobytes()


@pytest.fixture(scope="module")
def here(serve: Any, small_store: Path) -> Iterator[Any]:
    with serve("--store", small_store, "--local-admin") as server:
        yield server


@pytest.fixture(scope="module")
def there(serve: Any, small_store: Path) -> Iterator[Any]:
    with serve("--store", small_store, "--max-streams", 50) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(here: Any) -> dict[str, Any]:
    """What is heard in AUDIO."""
    with StreamClient(here.address) as client:
        return heard(stream_whole(client, np.frombuffer(AUDIO, "<i2"), 1600, probabilities=True))


def state(server: Any, stream: str, token: str, **query: Any) -> httpx.Response:
    headers = ELSEWHERE | {"Authorization": f"Bearer {token}"}
    response: httpx.Response = server.client.get(f"/v1/streams/{stream}/state", params=query, headers=headers)
    return response


def put(server: Any, stream: str, document: bytes) -> httpx.Response:
    response: httpx.Response = server.client.put(f"/v1/streams/{stream}/state", content=document)
    return response


def resume(client: StreamClient, token: str) -> dict[str, Any]:
    client.send({"type": "resume", "token": token})
    resumed = client.message()
    assert resumed["type"] == "resumed", resumed
    return resumed


def finish(client: StreamClient, token: str) -> list[dict[str, Any]]:
    """Go on with a stream of AUDIO, and return the further messages."""
    start = 2 * resume(client, token)["samples"]
    for begin in range(start, len(AUDIO), 1600):
        client.send(AUDIO[begin : begin + 1600])
    client.send({"type": "finish"})
    messages, closed = client.rest()
    assert closed == Closed(1000, "finished")
    return messages


@settings(max_examples=15)
@given(
    sent=st.integers(0, len(AUDIO)),
    size=st.sampled_from([333, 1600, 20_000]),
    read=st.booleans(),
)
def test_a_stream_moves_in_the_middle_of_a_word(
    here: Any, there: Any, undisturbed: dict[str, Any], sent: int, size: int, read: bool
) -> None:
    with StreamClient(here.address) as client:
        started = client.start(probabilities=True)
        for begin in range(0, sent, size):
            client.send(AUDIO[begin : min(begin + size, sent)])
        messages = [client.message()] if read and sent >= 1600 else [*client.arrived()]
        token = messages[-1]["resume"] if messages else started["resume"]
        document = state(here, started["stream"], token, close="true")
        assert document.status_code == 200
        *more, error = client.rest()[0]
        messages += more
        assert error["code"] == "moved"
    adopted = put(there, started["stream"], document.content)
    assert adopted.status_code == 201
    assert adopted.json()["resume"] == token
    with StreamClient(there.address) as client:
        messages += finish(client, error["resume"])
    assert heard(messages) == undisturbed


def begun(server: Any, size: int = 9999, **start: Any) -> tuple[str, str, list[dict[str, Any]]]:
    """A stream that has been told some of AUDIO: its id, newest token and messages."""
    with StreamClient(server.address) as client:
        started = client.start(**({"probabilities": True} | start))
        client.send(AUDIO[:size])
        messages = [client.message()]
    return started["stream"], messages[-1]["resume"], messages


def test_a_fork_and_its_original_go_on_alike(here: Any, there: Any, undisturbed: dict[str, Any]) -> None:
    stream, token, messages = begun(here)
    document = state(here, stream, token).content
    forks = [put(server, "fork", document).json() for server in (here, there)]
    tokens = [(here, token), (here, forks[0]["resume"]), (there, forks[1]["resume"])]
    assert len({token for _, token in tokens}) == 3
    assert all(fork["stream"] == "fork" and fork["samples"] == 4999 for fork in forks)
    for server, token in tokens:
        with StreamClient(server.address) as client:
            assert heard(messages + finish(client, token)) == undisturbed


def test_messages_that_the_client_may_lack_move_along(
    here: Any, there: Any, undisturbed: dict[str, Any]
) -> None:
    with StreamClient(here.address) as client:
        started = client.start(probabilities=True)
        for begin in range(0, 9600, 1600):
            client.send(AUDIO[begin : begin + 1600])
            messages = [client.message()]
    put(there, started["stream"], state(here, started["stream"], started["resume"], close="true").content)
    del messages  # all were lost
    with StreamClient(there.address) as client:
        assert heard(finish(client, started["resume"])) == undisturbed


def test_a_stream_that_has_been_finished_concludes_elsewhere(here: Any, there: Any) -> None:
    """Even one that was resampled: nothing is left in the resampler."""
    stream, token, _ = begun(here)
    document = json.loads(state(here, stream, token).content)["snapshot"]
    document |= {"finishing": True, "sample_rate": 16_000}
    adopted = put(there, stream, sealed(document))
    assert adopted.status_code == 201
    with StreamClient(there.address) as client:
        assert resume(client, adopted.json()["resume"])["finished"]
        *_, result = client.rest()[0]
    assert result["type"] == "result"
    assert result["duration"] == 4999 / 16_000
    late = state(there, stream, adopted.json()["resume"])
    assert (late.status_code, late.json()["title"]) == (409, "Not movable")
    assert "the stream is finished" in late.json()["detail"]


def sealed(snapshot: Any) -> bytes:
    """A document with the right checksum."""
    digest = hashlib.sha256(orjson.dumps(snapshot, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return orjson.dumps({"sha256": digest, "snapshot": snapshot})


def test_a_resampled_stream_is_not_moved(here: Any) -> None:
    stream, token, _ = begun(here, size=20_000, sample_rate=16_000)
    response = state(here, stream, token)
    assert (response.status_code, response.json()["title"]) == (409, "Not movable")
    assert "has to send at the model's rate, 8000 Hz" in response.json()["detail"]


def test_who_may_take_a_stream(here: Any, there: Any) -> None:
    stream, token, _ = begun(here)
    other, token_of_other, _ = begun(here)
    url = f"/v1/streams/{stream}/state"
    assert here.client.get(url).status_code == 200  # an administrator
    assert there.client.get(url).status_code == 401  # where nobody is
    nothing = here.client.get(url, headers=ELSEWHERE)
    assert (nothing.status_code, nothing.headers["www-authenticate"]) == (401, "Bearer")
    name, secret, number = token.split(".")
    wrong = [token_of_other, "x", f"{name}.{secret}", f"{name}.{secret[:-1]}.{number}", f"{other}.{secret}.1"]
    for sent in wrong:
        response = state(here, stream, sent)
        assert response.status_code == 404, sent
    assert here.client.get("/v1/streams/nobody/state").json()["detail"] == "there is no stream 'nobody'"
    ahead = state(here, stream, f"{name}.{secret}.99")
    assert (ahead.status_code, ahead.json()["title"]) == (409, "Messages gone")
    assert state(here, stream, token, close="yes").status_code == 422


def test_a_server_with_keys_lets_only_those_in_who_have_one(
    serve: Any, small_store: Path, tmp_path: Path, here: Any
) -> None:
    keys = tmp_path / "keys.toml"
    key = add(keys, "ann", frozenset({Access.INFER}), None, None)
    admin = add(keys, "root", frozenset({Access.ADMIN}), None, None)
    stream, token, _ = begun(here)
    document = state(here, stream, token).content
    url = f"/v1/streams/{stream}/state"
    with serve("--store", small_store, "--api-keys", keys) as server:
        assert server.client.put(url, content=document).status_code == 401
        headers = {"Authorization": f"Bearer {key}"}
        assert server.client.put(url, content=document, headers=headers).status_code == 201
        assert server.client.get(url).status_code == 401
        assert server.client.get(url, headers=headers).status_code == 404
        for allowed in (token, admin):
            assert server.client.get(url, headers={"Authorization": f"Bearer {allowed}"}).status_code == 200


def test_what_is_ahead_is_not_replaced(here: Any) -> None:
    stream, token, _ = begun(here, size=4800)
    stale = state(here, stream, token).content
    exists = put(here, stream, stale)
    assert (exists.status_code, exists.json()["title"]) == (409, "Stream exists")
    with StreamClient(here.address) as client:
        resume(client, token)
        client.send(AUDIO[4800:9600])
        token = client.message()["resume"]
    newest = state(here, stream, token, close="true").content
    older = put(here, stream, stale)
    assert older.status_code == 409
    assert "this is an older one, of 2400" in older.json()["detail"]
    assert put(here, stream, newest).status_code == 201  # the move failed, say
    with StreamClient(here.address) as client:
        resume(client, token)
        client.send({"type": "finish"})
        client.rest()
    ended = put(here, stream, newest)
    assert (ended.status_code, ended.json()["title"]) == (409, "Stream exists")


def test_another_model_is_refused(here: Any) -> None:
    stream, token, _ = begun(here)
    document = json.loads(state(here, stream, token).content)["snapshot"]
    sha256 = document["model"]["sha256"]

    def refused(server: Any, **model: str) -> str:
        changed = document | {"model": document["model"] | model}
        response = put(server, "other", sealed(changed))
        assert (response.status_code, response.json()["title"]) == (409, "Another model")
        return str(response.json()["detail"] + " " + response.json()["expected"])

    told = refused(here, sha256="0" * 64)
    assert sha256 in told
    assert "0" * 64 in told
    assert "'words'" in refused(here, name="words")
    assert "version" in refused(here, version="2")
    assert "has the task 'digits'" in refused(here, name="digits")


@given(where=st.floats(0, 1, exclude_max=True), what=st.binary(min_size=1, max_size=3))
@settings(max_examples=40)
def test_damaged_documents_are_refused(there: Any, document: bytes, where: float, what: bytes) -> None:
    at = int(where * len(document))
    for damaged in (document[:at], document[:at] + what + document[at + len(what) :]):
        if damaged != document:
            assert put(there, "damaged", damaged).status_code == 422


@pytest.fixture(scope="module")
def document(here: Any) -> bytes:
    stream, token, _ = begun(here)
    return state(here, stream, token).content


def test_too_large_a_document_is_not_read(here: Any) -> None:
    response = put(here, "large", bytes(2**22))
    assert (response.status_code, response.json()["title"]) == (413, "Body too large")


def test_ids_that_are_none(here: Any, document: bytes) -> None:
    for name in ("a.b", "a%20b", "x" * 65):
        assert put(here, name, document).status_code == 422


def test_a_full_server_says_when_to_try_again(serve: Any, small_store: Path, document: bytes) -> None:
    with serve("--store", small_store, "--max-streams", 1) as server:
        assert put(server, "one", document).status_code == 201
        response = put(server, "two", document)
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")
