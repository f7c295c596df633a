"""Name -> class tables: what is registered once can be named in recipes, cards and exports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class UnknownNameError(KeyError):
    """A name that nothing is registered under; the message names what is."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would quote and escape it


class Registry(Mapping[str, type[T]]):
    """A read-only mapping that classes add themselves to with a decorator.

    Args:
        kind: what the entries are, for error messages ("filter", "recurrence").
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that enters the class under `name`.

        Raises:
            ValueError: the name is taken.
        """

        def enter(cls: type[T]) -> type[T]:
            if name in self._entries:
                raise ValueError(
                    f"{self._kind} {name!r} is registered already, as {self._entries[name].__name__}"
                )
            self._entries[name] = cls
            return cls

        return enter

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._entries:
            raise UnknownNameError(
                f"no {self._kind} is called {name!r}; known: {', '.join(sorted(self._entries))}"
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
