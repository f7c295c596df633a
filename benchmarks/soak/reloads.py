"""The operator: new versions come into the store and old ones go, and some of the new ones are broken."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from benchmarks.soak.artifacts import Artifact
from benchmarks.soak.http import Connection, request
from benchmarks.soak.tally import ViolationError
from benchmarks.soak.world import World
from exports.card import CARD_FILE, MODEL_FILE

PATIENCE_SECONDS = 50.0  # less than an act has
INDEX = "/v2/repository/index"
_KEPT = 2  # versions of a model in the store
_POLL_SECONDS = 0.1
_BROKEN_EACH = 4  # every so many


class Operator:
    """
    Args:
        world: the server's.
        store: that it serves.

    Attributes:
        done: how many reloads there were.
    """

    def __init__(self, world: World, store: Path) -> None:
        self._world = world
        self._store = store
        self._elsewhere = store.with_name("elsewhere")
        self._newest = dict.fromkeys(world.oracle.artifacts, 1)
        self.done = 0
        for name in self._newest:
            self._artifact(name, 1).write(store, 1)
            world.oracle.versions[name].add(1)
            world.ready[name] = 1

    async def reload(self) -> str:
        """Put the next version into the store, or a broken one, tell the server or let it notice, and see
        what becomes of it.

        Raises:
            ViolationError
        """
        number, self.done = self.done, self.done + 1
        name = ("digits", "frames")[number % 2]
        told = number // 2 % 2 == 1
        if number % _BROKEN_EACH == _BROKEN_EACH - 1:
            await self._broken(name, truncated=number // _BROKEN_EACH % 2 == 0)
            return "broken"
        await self._good(name, told, slowly=number % 3 == 0)
        return "told" if told else "noticed"

    async def _good(self, name: str, told: bool, slowly: bool) -> None:
        version = self._newest[name] = self._newest[name] + 1
        self._world.oracle.versions[name].add(version)
        artifact = self._artifact(name, version)
        if slowly:
            await self._copy(artifact, name, version)
        else:
            artifact.write(self._store, version)
        if told:
            await self._load(name)
        await self._until(name, version, "READY")
        self._world.ready[name] = version
        for folder in (self._store / name).iterdir():
            if folder.name.isdecimal() and int(folder.name) <= version - _KEPT:
                shutil.rmtree(folder)

    async def _broken(self, name: str, truncated: bool) -> None:
        """A version that must not be served, and goes again."""
        version = self._newest[name] + 1
        whole = self._artifact(name, version).write(self._elsewhere, version)
        graph, card = whole / MODEL_FILE, whole / CARD_FILE
        if truncated:
            graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
        else:
            card.write_text(card.read_text()[:-100])
        folder = whole.rename(self._store / name / str(version))
        await self._load(name)
        await self._until(name, version, "UNAVAILABLE")
        shutil.rmtree(folder)
        await self._until(name, version, None)

    async def _copy(self, artifact: Artifact, name: str, version: int) -> None:
        """As `cp` would: the files grow where the server sees them."""
        whole = artifact.write(self._elsewhere, version)
        folder = self._store / name / str(version)
        folder.mkdir()
        for file in (CARD_FILE, MODEL_FILE):
            content = (whole / file).read_bytes()
            middle = len(content) // 2
            with (folder / file).open("wb") as copy:
                for part in (content[:middle], content[middle:]):
                    copy.write(part)
                    copy.flush()
                    await asyncio.sleep(_POLL_SECONDS)
        shutil.rmtree(whole)

    def _artifact(self, name: str, version: int) -> Artifact:
        return self._world.oracle.artifacts[name][version % 2]

    async def _load(self, name: str) -> None:
        path = f"/v2/repository/models/{name}/load"
        async with Connection.to(self._world.address) as connection:
            answer = await connection.ask(request("POST", path))
        if answer.status != 200:
            raise ViolationError(f"{path} answered {answer.status} {answer.body!r}")

    async def _until(self, name: str, version: int, state: str | None) -> None:
        """Wait until the index has the version in this state, or has it no more."""
        begun = time.monotonic()
        while (found := await self._state(name, version)) != state:
            if time.monotonic() - begun > PATIENCE_SECONDS:
                raise ViolationError(
                    f"{name} version {version} is still {found} after {PATIENCE_SECONDS:g} seconds; expected "
                    f"{state}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _state(self, name: str, version: int) -> str | None:
        async with Connection.to(self._world.address) as connection:
            answer = await connection.ask(request("POST", INDEX))
        for entry in answer.json():
            if (entry["name"], entry["version"]) == (name, str(version)):
                return str(entry["state"])
        return None
