"""Messages are sent in order, and again for a client that comes back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.streams.outbox import FULL, MessagesGoneError, Outbox


def test_messages_are_json_with_their_token() -> None:
    outbox = Outbox("s", 1000)
    outbox.put({"type": "frames", "probabilities": np.array([0.1, 0.5], np.float32)})
    assert outbox.next() == b'{"type":"frames","probabilities":[0.1,0.5],"resume":"s.1"}'
    assert outbox.token(7) == "s.7"


def test_it_is_full_until_enough_is_sent() -> None:
    outbox = Outbox("s", 0)
    outbox.put({"text": "x" * FULL})
    assert outbox.full
    outbox.mark_sent()
    assert not outbox.full


@pytest.mark.parametrize("number", [-1, 1, 5])
def test_messages_that_are_gone_or_never_were(number: int) -> None:
    outbox = Outbox("s", 0)
    for _ in range(4):
        outbox.put({})
    outbox.mark_sent()
    outbox.mark_sent()
    with pytest.raises(MessagesGoneError, match=f"message {number}; those after 2 are kept, up to 4"):
        outbox.rewind(number)


KEEP = 250


class OutboxMachine(RuleBasedStateMachine):
    """A client receives, loses its connection, and comes back with any number of messages it has."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox("s", KEEP)
        self.sizes: list[int] = []
        self.received = 0
        self.gone = 0

    @rule(count=st.integers(1, 5))
    def tell(self, count: int) -> None:
        for _ in range(count):
            number = len(self.sizes) + 1
            self.outbox.put({"n": number})
            self.sizes.append(len(f'{{"n":{number}}}'))

    @rule()
    def send(self) -> None:
        text = self.outbox.next()
        if text is None:
            assert self.received == len(self.sizes)
            return
        self.received += 1
        assert json.loads(text) == {"n": self.received, "resume": f"s.{self.received}"}
        self.outbox.mark_sent()
        while sum(self.sizes[self.gone : self.received]) > KEEP:
            self.gone += 1

    @rule(back=st.integers(-3, 12))
    def come_back(self, back: int) -> None:
        number = self.received - back
        if self.gone <= number <= len(self.sizes):
            self.outbox.rewind(number)
            self.received = number
        else:
            with pytest.raises(MessagesGoneError):
                self.outbox.rewind(number)

    @invariant()
    def it_counts_right(self) -> None:
        assert self.outbox.sent == self.received
        assert self.outbox.unsent_size == sum(self.sizes[self.received :])


TestOutbox = OutboxMachine.TestCase
