"""GET and PUT /v1/streams/{id}/state: a live stream moves to another server, or becomes two."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from service.engine import Engine, Model, StoreError, UnknownModelError
from service.frames import routes as frames
from service.http.access import is_admin
from service.http.headers import header
from service.http.problems import Problem, StatusProblem, documented, respond
from service.http.routes import BareRoute
from service.http.uploads import refuse_compressed
from service.http.words import quote
from service.settings import Settings
from service.streams.outbox import MessagesGoneError
from service.streams.session import NotMovableError, Session
from service.streams.sessions import Sessions, StreamExistsError, UnknownTokenError
from service.streams.snapshot import InvalidSnapshotError, ModelName, Snapshot

PATH = "/v1/streams/{stream}/state"

_NAME = r"^[A-Za-z0-9_-]{1,64}$"
_EXPECTED = "what GET gave, unchanged"


class Transfer:
    """The endpoints.

    Args:
        engine: has the models.
        sessions: the streams.
        settings: the limits.
    """

    def __init__(self, engine: Engine, sessions: Sessions, settings: Settings) -> None:
        self._engine = engine
        self._sessions = sessions
        # A snapshot has a second of audio and a message at most, as Base64 of four bytes a sample, and the
        # messages that are kept, in which quotes are escaped; states are small.
        self._most_bytes = 2**20 + 2 * settings.stream_replay_bytes + 8 * settings.max_chunk_bytes

    def install(self, app: FastAPI) -> None:
        """Give the application the endpoints."""
        BareRoute.add(
            app,
            PATH,
            self.get,
            methods=["GET"],
            tags=["frames"],
            summary="Take the state of a live stream",
            response_class=Response,
            responses={
                200: {"description": "The state.", "content": _DOCUMENT},
                **documented(401, 404, 409, 422),
            },
            openapi_extra={"parameters": [_STREAM, _CLOSE]},
        )
        BareRoute.add(
            app,
            PATH,
            self.put,
            methods=["PUT"],
            tags=["frames"],
            summary="Go on with a live stream",
            status_code=201,
            response_class=Response,
            responses={
                201: {
                    "description": "The stream is here.",
                    "content": {"application/json": {"schema": _ADOPTED}},
                },
                **documented(401, 409, 413, 415, 422, 429, 503),
            },
            openapi_extra={
                "parameters": [_STREAM],
                "requestBody": {"required": True, "content": _DOCUMENT},
            },
        )

    async def get(self, request: Request) -> Response:
        """All that it takes to go on with a stream elsewhere: the model's state, the transcript so far, audio
        that waits, and the messages that the client may lack. Show a token of the stream, best the newest
        one, as `Authorization: Bearer TOKEN`, or an administrator's key. Who has the document can go on with
        the stream.

        The stream goes on here, unless `close=true`: then its connection is told that it was moved.
        """
        close = _closes(request)
        try:
            session, number = self._authorized(request)
            snapshot = session.snapshot(number)
        except _UnauthorizedError:
            return _unauthorized(
                request, "Authorization: Bearer, and a token of the stream or an administrator's key"
            )
        except UnknownTokenError as error:
            raise StatusProblem(HTTPStatus.NOT_FOUND, str(error), "a live stream of this server") from error
        except MessagesGoneError as error:
            raise Problem(HTTPStatus.CONFLICT, "Messages gone", str(error), "a newer token") from error
        except NotMovableError as error:
            raise Problem(HTTPStatus.CONFLICT, "Not movable", str(error)) from error
        if close:
            self._sessions.moved(session)
        return Response(snapshot.dump(), media_type="application/json")

    async def put(self, request: Request) -> Response:
        """Go on with a stream from the document that GET gave, here or on another server. Under its own id
        the tokens of its client stay good; under another one it is a copy, with tokens of its own. It keeps
        to the model that it began on, which this server must have too.
        """
        name = _name(request)
        document = await self._read(request)
        try:
            snapshot = Snapshot.load(document)
            session = self._sessions.adopt(name, self._model(snapshot.model), snapshot)
        except InvalidSnapshotError as error:
            raise Problem(422, "Invalid stream state", str(error), _EXPECTED) from error
        except StreamExistsError as error:
            raise Problem(
                HTTPStatus.CONFLICT, "Stream exists", str(error), "another id, for a copy"
            ) from error
        answer = {
            "stream": session.name,
            "samples": session.samples,
            "frames": session.frames,
            "resume": session.outbox.token(snapshot.first - 1),
        }
        return Response(orjson.dumps(answer), HTTPStatus.CREATED, media_type="application/json")

    def _authorized(self, request: Request) -> tuple[Session, int]:
        """The stream that the request may have, and the number of the last message that need not be told.

        Raises:
            UnknownTokenError: there is none, or none of this token.
            _UnauthorizedError: the request has no token.
        """
        name = request.path_params["stream"]
        scheme, _, token = (header(request.scope, b"authorization") or b"").decode("latin-1").partition(" ")
        try:
            session, number = self._sessions.find(token.strip() if scheme.lower() == "bearer" else "")
        except UnknownTokenError:
            if is_admin(request.scope):
                session = self._sessions.named(name)
                return session, session.outbox.kept
            if scheme:
                raise
            raise _UnauthorizedError from None
        if session.name != name:
            raise UnknownTokenError(f"the token is not that of stream {quote(name)}")
        return session, number

    async def _read(self, request: Request) -> bytes:
        refuse_compressed(request)
        document = bytearray()
        async for chunk in request.stream():
            document += chunk
            if len(document) > self._most_bytes:
                raise Problem(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    "Body too large",
                    f"the body has more than {self._most_bytes} bytes",
                    _EXPECTED,
                )
        return bytes(document)

    def _model(self, asked: ModelName) -> Model:
        """The model that heard a stream.

        Raises:
            Problem: this server has another one, or none.
        """
        try:
            model = self._engine.model(asked.name, asked.version)
            frames.check(model)
        except (UnknownModelError, StoreError) as error:
            raise Problem(HTTPStatus.CONFLICT, "Another model", str(error), f"model {asked}") from error
        has = ModelName.of(model.card)
        if has != asked:
            raise Problem(
                HTTPStatus.CONFLICT, "Another model", f"this server has model {has}", f"model {asked}"
            )
        return model


class _UnauthorizedError(Exception):
    pass


def _unauthorized(request: Request, expected: str) -> Response:
    problem = StatusProblem(HTTPStatus.UNAUTHORIZED, "the request does not say who may do this", expected)
    return respond(problem, request.scope["path"], {"WWW-Authenticate": "Bearer"})


def _name(request: Request) -> str:
    name: str = request.path_params["stream"]
    if not re.fullmatch(_NAME, name):
        raise Problem(
            422, "Invalid request", f"the stream's id is {quote(name)}", "1 to 64 letters, digits, _ and -"
        )
    return name


def _closes(request: Request) -> bool:
    """Whether the stream is to end here.

    Raises:
        Problem: the parameter is neither true nor false.
    """
    value = request.query_params.get("close", "false")
    if value not in ("true", "false"):
        raise Problem(422, "Invalid request", f"query parameter close is {quote(value)}", "true or false")
    return value == "true"


_STREAM = {
    "name": "stream",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": _NAME},
    "description": "The stream's id, as the server called it when it began.",
}
_CLOSE = {
    "name": "close",
    "in": "query",
    "required": False,
    "schema": {"type": "boolean", "default": False},
    "description": "End the stream here; its client is told to go on elsewhere.",
}
_DOCUMENT = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["sha256", "snapshot"],
            "properties": {
                "sha256": {"type": "string", "description": "Of the snapshot."},
                "snapshot": {"type": "object", "description": "docs/frames.md tells what is in it."},
            },
        }
    }
}
_ADOPTED: dict[str, Any] = {
    "type": "object",
    "required": ["stream", "samples", "frames", "resume"],
    "properties": {
        "stream": {"type": "string", "description": "Its id."},
        "samples": {"type": "integer", "description": "The client's samples that have been taken."},
        "frames": {"type": "integer", "description": "The frames that have been heard."},
        "resume": {"type": "string", "description": "A token, of all messages that the document lacks."},
    },
}
