"""Which versions a store has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from exports.card import CARD_FILE, MODEL_FILE
from service.engine.store import StoreError

# Of the files of a version: it changes when one of them does.
Fingerprint = tuple[tuple[int, ...] | None, ...]
Found = dict[tuple[str, int], Fingerprint]  # by model and version

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def scan(store: Path) -> Found:
    """The versions in a store.

    Raises:
        StoreError: there is no such folder, or no model in it.
    """
    try:
        found: Found = {
            (name, int(version)): (_fingerprint(folder / CARD_FILE), _fingerprint(folder / MODEL_FILE))
            for name, models in _folders(store)
            for version, folder in _versions(models)
        }
    except FileNotFoundError:
        raise StoreError(
            f"{store}: no such folder; give the one that holds <model>/<version>/ with --store"
        ) from None
    except OSError as error:
        raise StoreError(f"{store}: cannot be read ({error.strerror})") from error
    if not found:
        raise StoreError(
            f"{store}: holds no model; expected <model>/<version>/{CARD_FILE}: "
            "export one with `python -m exports`, or choose another folder with --store"
        )
    return found


def _versions(models: Path) -> list[tuple[str, Path]]:
    try:
        return [(name, folder) for name, folder in _folders(models) if _VERSION.fullmatch(name)]
    except FileNotFoundError:  # it has been removed since
        return []


def _folders(parent: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the folders in a folder, by name."""
    with os.scandir(parent) as entries:
        names = sorted(entry.name for entry in entries if _is_folder(entry))
    for name in names:
        if not name.startswith("."):
            yield name, parent / name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns  # the last: permissions too
