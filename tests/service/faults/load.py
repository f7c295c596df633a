"""Clients that ask all the time, and what they are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx
import numpy as np

from tests.service.conftest import WEIGHTS

PATIENCE_SECONDS = 60.0
RIGHT = "right"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Raise AssertionError if it is not so for a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not {what}"
        time.sleep(0.01)


def question(total: float) -> dict[str, Any]:
    """Pixels of this sum, for /v2/models/digits/infer."""
    pixels = {"name": "pixels", "shape": [1, 2], "datatype": "FP32", "data": [total - 0.25, 0.25]}
    return {"inputs": [pixels], "outputs": [{"name": "probabilities"}]}


def is_right(answer: Any, total: float) -> bool:
    """Whether that is what the small model answers to pixels of this sum."""
    scores = np.exp(WEIGHTS * np.float32(total))
    return bool(np.allclose(answer["outputs"][0]["data"], scores / scores.sum(), atol=1e-5))


class Load:
    """Clients in threads that ask one thing after the other, each another one, until the end of the context,
    or until told to stop.

    Args:
        url: of the server.
        clients: how many.

    Attributes:
        outcomes: of the requests, in the order of their ends: right, wrong, a status, or an exception's name.
    """

    def __init__(self, url: str, clients: int = 6) -> None:
        self.outcomes: list[str] = []
        self._url = f"{url}/v2/models/digits/infer"
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()

    def stop(self) -> None:
        """Begin no more requests."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "a request hangs"

    def wait(self, count: int) -> None:
        """Wait until so many more have ended."""
        target = len(self.outcomes) + count
        wait_until(lambda: len(self.outcomes) >= target, f"{count} more requests have ended")

    def _ask(self, number: int) -> None:
        total = 1.0 + number
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            while not self._stopping.is_set():
                total = 1.0 + (total + len(self._threads)) % 97
                try:
                    response = client.post(self._url, json=question(total))
                except httpx.HTTPError as error:
                    self.outcomes.append(type(error).__name__)
                    time.sleep(0.01)
                    continue
                if response.status_code != 200:
                    self.outcomes.append(str(response.status_code))
                else:
                    self.outcomes.append(RIGHT if is_right(response.json(), total) else "wrong")
