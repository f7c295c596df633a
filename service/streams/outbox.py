"""The messages of a stream: numbered from 1, sent in order, and kept for a while for a client that comes back
without the last of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import orjson

# Unsent bytes above which nothing more is computed for a client that takes no messages.
FULL = 2**16


class MessagesGoneError(LookupError):
    """Messages that a client lacks are not kept any more."""


class Outbox:
    """
    Args:
        name: what the stream's tokens begin with; unguessable.
        keep: how many bytes of messages that have been sent are kept.
        first, messages: with which another outbox's go on: the number of the first, and all since. None of
            them counts as sent.

    Attributes:
        name: as given.
        sent: the number of the last message that was sent, 0 before the first.
        unsent_size: bytes not sent yet.
    """

    def __init__(self, name: str, keep: int, first: int = 1, messages: Iterable[bytes] = ()) -> None:
        self.name = name
        self.sent = first - 1
        self._keep = keep
        self._messages = deque(messages)  # without their tokens
        self._dropped = first - 1  # how many messages are not kept any more
        self.unsent_size = sum(map(len, self._messages))
        self._sent_size = 0

    @property
    def kept(self) -> int:
        """The number of the message before the first that is kept."""
        return self._dropped

    @property
    def full(self) -> bool:
        """Whether to send before putting more."""
        return self.unsent_size >= FULL

    def token(self, number: int) -> str:
        """What a client shows who has all messages up to this one."""
        return f"{self.name}.{number}"

    def put(self, message: dict[str, Any]) -> None:
        """Add a message, which has something in it."""
        text = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
        self._messages.append(text)
        self.unsent_size += len(text)

    def next(self) -> bytes | None:
        """The message to send next, with its token in `resume`; None if all have been sent."""
        index = self.sent - self._dropped
        if index == len(self._messages):
            return None
        return b'%b,"resume":"%b"}' % (self._messages[index][:-1], self.token(self.sent + 1).encode())

    def after(self, number: int) -> list[bytes]:
        """The messages after this one, without their tokens.

        Raises:
            MessagesGoneError: some of them are not kept any more, or there was never such a message.
        """
        self._check(number)
        return [*self._messages][number - self._dropped :]

    def mark_sent(self) -> None:
        """The message that `next` gave has been sent."""
        size = len(self._messages[self.sent - self._dropped])
        self.sent += 1
        self.unsent_size -= size
        self._sent_size += size
        while self._sent_size > self._keep:
            self._sent_size -= len(self._messages.popleft())
            self._dropped += 1

    def rewind(self, number: int) -> None:
        """Send again what comes after message `number`.

        Raises:
            MessagesGoneError: some of it is not kept any more, or there was never such a message.
        """
        self._check(number)
        sizes = [len(text) for text in self._messages]
        self.sent = number
        self._sent_size = sum(sizes[: number - self._dropped])
        self.unsent_size = sum(sizes) - self._sent_size

    def _check(self, number: int) -> None:
        newest = self._dropped + len(self._messages)
        if not self._dropped <= number <= newest:
            raise MessagesGoneError(
                f"the token is that of message {number}; those after {self._dropped} are kept, up to {newest}"
            )
