"""The models and versions that are served: those of a store, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from service.engine import devices
from service.engine.devices import Device
from service.engine.errors import ModelUnavailableError, UnknownModelError
from service.engine.scan import Fingerprint, Found, scan
from service.engine.store import Model, StoreError, load_model
from service.engine.tuning import Pace
from service.engine.watch import watch

log = structlog.get_logger(__name__)

_BACKOFF_SECONDS = (0, 1, 2, 4, 8, 16, 32)  # between attempts to load a model that ran no more
# Until what could not be loaded is tried again, though its files are the same: it may have been for want of
# memory, or of a file system that answers.
_AGAIN_SECONDS = 60
_KEPT_PACES = 64  # of graphs; older ones are measured anew should they come back


class State(StrEnum):
    """Of a version, as Triton's model repository extension names it."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Entry:
    """A version in the index. `reason` says why it is not ready, or what is wrong with its newest files."""

    name: str
    version: str
    state: State
    reason: str = ""


@dataclass
class _Version:
    """What is known of a version.

    Attributes:
        tried: the files that were loaded last, or could not be.
        when: that was, by `time.monotonic`.
        model: what is served, None if nothing is. It may come from files before those.
        reason: why `tried` could not be loaded, or why it runs no more.
    """

    tried: Fingerprint | None = None
    when: float = 0.0
    model: Model | None = None
    reason: str | None = None

    def stale(self, files: Fingerprint) -> bool:
        """Whether to load them."""
        failed = self.reason is not None
        return self.tried != files or (failed and time.monotonic() > self.when + _AGAIN_SECONDS)


_Key = tuple[str, int]


class Repository:
    """Serves the newest versions of every model in a store, and keeps up with what happens there.

    A version that comes is loaded beside what is served, in another thread, checked, and only then given to
    new requests; whoever holds an older one keeps it. What can't be loaded changes nothing but `problems`;
    it is tried again when its files change, and each minute. A version that goes is not given to new requests
    any more, even if it was the last: who removes that means it. Only the event loop's thread may call this.

    Args:
        store: folder of artifacts, <model>/<version>/.
        check: raises StoreError for a model that must not be served, though it is what its card says.
        keep: how many versions of a model are served.
        device: what they run on, by default the CPUs.

    Attributes:
        device: as given.
        loads: how many versions were "loaded" and how many "failed".
        load_seconds: what that took, all together.
        unread: why the store can't be read now, None if it can. What was loaded is served on.

    Raises:
        StoreError: there is no model, or one of which no version can be served.
    """

    def __init__(
        self,
        store: Path,
        check: Callable[[Model], None] = lambda _: None,
        keep: int = 2,
        device: Device | None = None,
    ) -> None:
        self.device = device or devices.cpu()
        self._store = store
        self._check = check
        self._keep = keep
        self._versions: dict[_Key, _Version] = {}
        self._unloaded: set[str] = set()
        self._leaving: dict[_Key, weakref.ref[Model]] = {}
        self._loading: _Key | None = None
        self._paces: dict[str, tuple[Pace, ...]] = {}  # by checksum: what was measured is not measured again
        self._newest: dict[str, Model] = {}
        self._expected: set[str] = set()  # names that have been served, and are still there
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._announced = False
        self.unread: str | None = None
        self.load_seconds = 0.0
        self.loads: Counter[str] = Counter()
        found = scan(store)
        for key in self._missing(found):
            self._settle(key, found[key], self._load(key))
        self._forget(found)
        for name in sorted({name for name, _ in found}):
            if name not in self._newest:
                reasons = [version.reason for key, version in self._versions.items() if key[0] == name]
                raise StoreError("; ".join(filter(None, reasons)))

    @property
    def models(self) -> Mapping[str, Model]:
        """The newest version of each model that can be run."""
        return self._newest

    @property
    def versions(self) -> list[Model]:
        """All that can be run."""
        return [version.model for version in self._versions.values() if version.model is not None]

    @property
    def served(self) -> set[tuple[str, str]]:
        """Their names and versions."""
        return {(model.card.name, model.card.version) for model in self.versions}

    @property
    def ready(self) -> bool:
        """Whether each model that was served, and has neither been unloaded nor removed, can be run."""
        return self._expected <= self._newest.keys()

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """Name, version and reason of what is in the store and can't be served."""
        return [
            (name, str(number), version.reason)
            for (name, number), version in sorted(self._versions.items())
            if version.reason is not None
        ]

    def model(self, name: str, version: str | None = None) -> Model:
        """A version of a model, by default the newest that can be run.

        Raises:
            UnknownModelError, ModelUnavailableError
        """
        newest = self._newest.get(name)
        if newest is not None and version in (None, newest.card.version):
            return newest
        known = {str(number): found for (other, number), found in self._versions.items() if other == name}
        if version is None and (known or name in self._unloaded):
            reasons = "; ".join(found.reason for found in known.values() if found.reason) or "it was unloaded"
            raise ModelUnavailableError(f"model {name!r} can't be run now: {reasons}")
        if version in known and version is not None:
            model = known[version].model
            if model is None:
                raise ModelUnavailableError(f"model {name!r} version {version}: {known[version].reason}")
            return model
        if known:
            has = ", ".join(number for number, found in known.items() if found.model is not None) or "none"
            raise UnknownModelError(
                f"model {name!r} has no version {version!r}; versions that can be run: {has}"
            )
        raise UnknownModelError(
            f"there is no model {name!r}; this server has {', '.join(self._newest) or 'none'}"
        )

    def index(self) -> list[Entry]:
        """All versions that are known, by name and version."""
        entries = {
            key: Entry(
                key[0],
                str(key[1]),
                State.UNAVAILABLE if version.model is None else State.READY,
                version.reason or "",
            )
            for key, version in self._versions.items()
        }
        for key, leaving in self._leaving.items():
            if leaving() is not None and key not in entries:
                entries[key] = Entry(key[0], str(key[1]), State.UNLOADING, "streams that began on it go on")
        if self._loading is not None and (self._loading not in entries or not entries[self._loading].reason):
            name, number = self._loading
            entries[self._loading] = Entry(name, str(number), State.LOADING)
        names = {name for name, _ in entries}
        gone = {(name, 0): Entry(name, "", State.UNAVAILABLE, "unloaded") for name in self._unloaded - names}
        return [entry for _, entry in sorted({**entries, **gone}.items())]

    async def load(self, name: str) -> None:
        """Serve a model again that was unloaded, or look at its files again.

        Raises:
            UnknownModelError: the store has no such model.
            ModelUnavailableError: no version of it can be loaded, or the store can't be read.
        """
        self._unloaded.discard(name)
        for key, version in self._versions.items():
            if key[0] == name and version.reason is not None:
                version.tried = None
        await self.refresh()
        if self.unread is not None:
            raise ModelUnavailableError(f"model {name!r} can't be loaded now: {self.unread}")
        self.model(name)

    def unload(self, name: str) -> None:
        """Do not serve a model any more, though the store has it.

        Raises:
            UnknownModelError
        """
        if name in self._unloaded:
            return
        keys = [key for key in self._versions if key[0] == name]
        if not keys:
            self.model(name)
        self._unloaded.add(name)
        for key in keys:
            self._drop(key, "unloaded")

    def fault(self, model: Model, reason: str) -> None:
        """The model runs no more, as after an error of its device: load it anew, and again until it runs.
        Another version takes its place if there is one.
        """
        key = model.card.name, int(model.card.version)
        version = self._versions.get(key)
        if version is None or version.model is not model:
            return
        log.error("model runs no more", model=key[0], version=model.card.version, reason=reason)
        version.model, version.reason = None, reason
        self._changed()
        task = asyncio.get_running_loop().create_task(self._recover(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def refresh(self) -> None:
        """Do what the store's changes ask for. One at a time: a second call waits for the first."""
        async with self._lock:
            try:
                found = await asyncio.to_thread(scan, self._store)
            except StoreError as error:  # it is being replaced, or gone: that is no reason to stop serving
                if str(error) != self.unread:
                    self.unread = str(error)
                    log.warning("store not read", reason=self.unread)
                return
            if self.unread is not None:
                self.unread = None
                log.info("store read again")
            for key in self._missing(found):
                self._loading = key
                try:
                    outcome = await asyncio.to_thread(self._load, key)
                finally:
                    self._loading = None
                if key[0] not in self._unloaded:  # meanwhile
                    self._settle(key, found[key], outcome)
            self._forget(found)

    def announce(self) -> None:
        """Log what is served and what is not, and from now on each change. Before, `StoreError` says it."""
        self._announced = True
        for key in sorted(self._versions):
            self._tell(key)

    async def start(self) -> None:
        """Begin to watch the store."""
        task = asyncio.get_running_loop().create_task(watch(self._store, self.refresh))
        self._tasks.add(task)
        await asyncio.sleep(0)  # by when the task waits for notices

    async def stop(self) -> None:
        """Do not watch it any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _recover(self, key: _Key) -> None:
        for seconds in _BACKOFF_SECONDS:
            await asyncio.sleep(seconds)
            version = self._versions.get(key)
            if version is None or version.model is not None:
                return
            version.tried = None
            await self.refresh()

    def _missing(self, found: Found) -> Iterator[_Key]:
        """What is to be loaded, newest versions first; read on after each has been settled."""
        for name in sorted({name for name, _ in found}):
            ready = 0
            for key in sorted((key for key in found if key[0] == name), reverse=True):
                if name in self._unloaded or ready == self._keep:
                    break
                version = self._versions.get(key)
                if version is None or version.stale(found[key]):
                    yield key
                    version = self._versions.get(key)  # None if it was unloaded meanwhile
                ready += version is not None and version.model is not None

    def _load(self, key: _Key) -> Model | Exception:
        """In any thread; one at a time."""
        name, number = key
        begin = time.monotonic()
        try:
            model = load_model(self._store / name / str(number), self._paces, self.device)
            while len(self._paces) > _KEPT_PACES:
                del self._paces[next(iter(self._paces))]
            self._check(model)
        except Exception as error:  # whatever it is, it must not end the watching
            return error
        finally:
            self.load_seconds += time.monotonic() - begin
        return model

    def _settle(self, key: _Key, tried: Fingerprint, outcome: Model | Exception) -> None:
        version = self._versions.setdefault(key, _Version())
        version.tried, version.when, before = tried, time.monotonic(), version.reason
        if isinstance(outcome, Exception):
            self.loads["failed"] += 1
            known = isinstance(outcome, StoreError)
            version.reason = str(outcome) if known else f"{type(outcome).__name__}: {outcome}"
        else:
            self.loads["loaded"] += 1
            self._leave(key, version.model)
            version.model, version.reason = outcome, None
        if self._announced and (version.reason is None or version.reason != before):
            self._tell(key)
        self._changed()

    def _tell(self, key: _Key) -> None:
        name, number = key
        reason = self._versions[key].reason
        if reason is None:
            log.info("loaded", model=name, version=str(number))
        else:
            log.error("not served", model=name, version=str(number), reason=reason)

    def _forget(self, found: Found) -> None:
        """Let go of versions that are gone, or older than those that are kept."""
        for name in {name for name, _ in self._versions}:
            ready = 0
            for key in sorted((key for key in self._versions if key[0] == name), reverse=True):
                if key not in found:
                    self._drop(key, "removed from the store")
                elif ready >= self._keep:
                    self._drop(key, "newer versions are served")
                else:
                    ready += self._versions[key].model is not None

    def _drop(self, key: _Key, reason: str) -> None:
        version = self._versions.pop(key)
        self._leave(key, version.model)
        log.info("unloaded", model=key[0], version=str(key[1]), reason=reason)
        self._changed()

    def _leave(self, key: _Key, model: Model | None) -> None:
        self._leaving = {other: left for other, left in self._leaving.items() if left() is not None}
        if model is not None:
            self._leaving[key] = weakref.ref(model)

    def _changed(self) -> None:
        newest: dict[str, Model] = {}
        for (name, _), version in sorted(self._versions.items()):
            if version.model is not None:
                newest[name] = version.model
        self._newest = newest
        self._expected = (self._expected | newest.keys()) & {name for name, _ in self._versions}
