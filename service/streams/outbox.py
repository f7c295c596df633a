"""The messages of a stream: numbered from 1, sent in order, and kept for a while for a client that comes back
without the last of them.
"""

from __future__ import annotations

from collections import deque
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

    Attributes:
        name: as given.
        sent: the number of the last message that was sent, 0 before the first.
        unsent_size: bytes not sent yet.
    """

    def __init__(self, name: str, keep: int) -> None:
        self.name = name
        self.sent = 0
        self.unsent_size = 0
        self._keep = keep
        self._messages: deque[bytes] = deque()
        self._dropped = 0  # how many messages are not kept any more
        self._sent_size = 0

    @property
    def full(self) -> bool:
        """Whether to send before putting more."""
        return self.unsent_size >= FULL

    def token(self, number: int) -> str:
        """What a client shows who has all messages up to this one."""
        return f"{self.name}.{number}"

    def put(self, message: dict[str, Any]) -> None:
        """Add a message; its `resume` is filled in."""
        message["resume"] = self.token(self._dropped + len(self._messages) + 1)
        text = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
        self._messages.append(text)
        self.unsent_size += len(text)

    def next(self) -> bytes | None:
        """The message to send next, None if all have been sent."""
        index = self.sent - self._dropped
        return self._messages[index] if index < len(self._messages) else None

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
        newest = self._dropped + len(self._messages)
        if not self._dropped <= number <= newest:
            raise MessagesGoneError(
                f"the token is that of message {number}; those after {self._dropped} are kept, up to {newest}"
            )
        sizes = [len(text) for text in self._messages]
        self.sent = number
        self._sent_size = sum(sizes[: number - self._dropped])
        self.unsent_size = sum(sizes) - self._sent_size
