"""Which versions a store has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from exports.card import CARD_FILE, MODEL_FILE
from service.engine.store import StoreError

Fingerprint = tuple[
    tuple[int, ...] | None, ...
]  # of the files of a version: it changes when one of them does
Found = dict[tuple[str, int], Fingerprint]  # by model and version


def scan(store: Path) -> Found:
    """The versions in a store.

    Raises:
        StoreError: there is no such folder, or no model in it.
    """
    try:
        found: Found = {
            (name, int(version)): (_fingerprint(folder / CARD_FILE), _fingerprint(folder / MODEL_FILE))
            for name, models in _folders(store)
            for version, folder in _folders(models)
            if version.isascii() and version.isdecimal() and not version.startswith("0") and len(version) < 10
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


def _folders(parent: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the folders in a folder, by name."""
    with os.scandir(parent) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for name in names:
        if not name.startswith("."):
            yield name, parent / name


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
