"""API keys: a file of their hashes, read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

log = structlog.get_logger(__name__)

PREFIX = "momentum-"  # so that a key is known for one wherever it turns up
_CHECK_SECONDS = 1.0
_LARGEST_FILE = 2**20  # bytes; it is read between requests
_MOST_KEYS = 1000
_HEADER = """\
# API keys of Momentum Serve, as SHA-256: the keys themselves are kept nowhere. Remove an entry to revoke its
# key. The server reads this file again within a second of a change. `python -m service keys new` adds to it.
"""


class Access(StrEnum):
    """What a key is for."""

    INFER = "infer"
    ADMIN = "admin"


class Key(BaseModel):
    """An entry of the file.

    A key has 256 random bits, so nobody can try them all and a fast hash keeps it as well as a slow one;
    slow hashes are for passwords, which people choose.

    Attributes:
        name: whose key it is, as the log tells it.
        sha256: of the key, in hexadecimal digits.
        scopes: what it is for.
        rate: requests a second that it may make, without limit if None.
        burst: requests that it may make at once; a second's if None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[frozenset[Access], Field(min_length=1)]
    rate: Annotated[float, Field(gt=0, le=1e6)] | None = None
    burst: Annotated[int, Field(ge=1, le=10**6)] | None = None


class KeyFileError(ValueError):
    """A file of keys that can't be read; the message says where and why."""


class Keys:
    """The keys of a file, which is read again when it changes. What can't be read changes nothing.

    Args:
        path: the file.
        clock: seconds, which never go back.

    Raises:
        KeyFileError: the file can't be read.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._checked = clock()
        self._version = _version(path)
        self._keys = _index(read(path))

    def find(self, key: bytes) -> Key | None:
        """The entry of a key that a client sent, None if there is none."""
        self._look()
        digest = hashlib.sha256(key).hexdigest()
        # What the search's time tells is of a hash, which nobody can steer; the comparison's tells nothing.
        found = self._keys.get(digest[:16])
        return found if found is not None and hmac.compare_digest(found.sha256, digest) else None

    def allows(self, key: Key, access: Access) -> bool:
        """Whether a key that `find` once gave is still in the file, and still for that."""
        self._look()
        now = self._keys.get(key.sha256[:16])
        return now is not None and now.sha256 == key.sha256 and access in now.scopes

    def _look(self) -> None:
        """Read the file again if it has changed and wasn't looked at just now."""
        if (now := self._clock()) - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version  # a broken file is told of once
        try:
            self._keys = _index(read(self._path))
        except KeyFileError as error:
            log.error("API keys not read", reason=str(error), kept=len(self._keys))
        else:
            log.info("API keys read", path=str(self._path), keys=len(self._keys))


def read(path: Path) -> list[Key]:
    """Read a file of keys.

    Raises:
        KeyFileError: there is none, or it is broken.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    return _parse(path, content)


def add(path: Path, name: str, scopes: frozenset[Access], rate: float | None, burst: int | None) -> str:
    """Make a key, add its entry to a file, which may be a new one, and return the key.

    The file is replaced at once and stays its owner's, with the mode that it had; a new one belongs to who
    calls this, who alone can read it.

    Raises:
        KeyFileError: the file is broken or would be, has a key of that name, or can't be written.
        ValidationError: the entry is not valid.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    key = Key(name=name, sha256=digest, scopes=scopes, rate=rate, burst=burst)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = _HEADER.encode()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if name in {other.name for other in _parse(path, content)}:
        raise KeyFileError(f"{path}: there is a key {name} already; remove it, or choose another name")
    content += _entry(key).encode()
    try:
        _parse(path, content)
    except KeyFileError as error:  # too many, or `keys = []`, to which TOML can't add
        raise KeyFileError(f"with the new key, {error}") from error
    try:
        _replace(path, content)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    return secret


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: Annotated[list[Key], Field(max_length=_MOST_KEYS)] = []


def _parse(path: Path, content: bytes) -> list[Key]:
    if len(content) > _LARGEST_FILE:
        raise KeyFileError(f"{path}: it has more than {_LARGEST_FILE} bytes")
    try:
        document = tomllib.loads(content.decode())
        keys = _File.model_validate(document).keys
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeyFileError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise KeyFileError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for what in ("name", "sha256"):
        values = Counter(getattr(key, what) for key in keys)
        if twice := [value for value, times in values.items() if times > 1]:
            raise KeyFileError(f"{path}: several keys have the {what} {twice[0]}")
    return keys


def _version(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _index(keys: list[Key]) -> dict[str, Key]:
    return {key.sha256[:16]: key for key in keys}


def _entry(key: Key) -> str:
    """The entry as TOML; nothing in it needs an escape."""
    scopes = ", ".join(f'"{scope}"' for scope in sorted(key.scopes))
    lines = ["", "[[keys]]", f'name = "{key.name}"', f'sha256 = "{key.sha256}"', f"scopes = [{scopes}]"]
    if key.rate is not None:
        lines.append(f"rate = {key.rate!r}")
    if key.burst is not None:
        lines.append(f"burst = {key.burst}")
    return "\n".join(lines) + "\n"


def _replace(path: Path, content: bytes) -> None:
    path = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # with mode 600
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.exists():  # so that a server of another user can still read it
                before = path.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
