"""The store: `<store>/<name>/<version>/` holds one artifact, model.onnx and card.json. Versions are never
overwritten.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from exports.card import CARD_FILE, MODEL_FILE, Card
from exports.errors import ExportError

VERSION = re.compile(r"[1-9][0-9]{0,8}")
DEFAULT_STORE = Path(__file__).parent / "store"


def versions(store: Path, name: str) -> list[int]:
    """The versions of a model in the store, ascending."""
    folder = store / name
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name) for entry in folder.iterdir() if VERSION.fullmatch(entry.name) and entry.is_dir()
    )


def free_version(store: Path, name: str, wanted: int | None) -> int:
    """The version to write: `wanted`, or one more than the newest.

    Raises:
        ExportError: `wanted` exists.
    """
    existing = versions(store, name)
    if wanted is None:
        return existing[-1] + 1 if existing else 1
    if wanted in existing:
        raise ExportError(
            f"{store / name / str(wanted)} exists and artifacts are never overwritten: "
            f"leave out --version to get version {existing[-1] + 1}, or remove the folder first"
        )
    return wanted


def write_artifact(store: Path, card: Card, model: bytes) -> Path:
    """Write an artifact; it appears in the store whole or not at all.

    Returns:
        Its folder.

    Raises:
        ExportError: the version exists, or the store cannot be written.
    """
    folder = store / card.name / card.version
    temporary = folder.with_name(f".{card.version}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        for name, content in (
            (MODEL_FILE, model),
            (CARD_FILE, card.model_dump_json(indent=1).encode() + b"\n"),
        ):
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            raise ExportError(
                f"{folder} exists and artifacts are never overwritten: export again for the next version"
            )
        temporary.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error.strerror}): choose another --store") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_card(store: Path, name: str, version: int | None = None) -> tuple[Path, Card]:
    """An artifact's folder and card; the newest version by default.

    Raises:
        ExportError: there is no such artifact.
        CardError: its card cannot be read.
    """
    existing = versions(store, name)
    if not existing or (version is not None and version not in existing):
        known = ", ".join(map(str, existing)) or "none"
        raise ExportError(
            f"{store} holds no {name}{f' version {version}' if version else ''} (versions: {known}): "
            "name one of these, choose another --store, or export one with `python -m exports CHECKPOINT`"
        )
    folder = store / name / str(version or existing[-1])
    return folder, Card.read(folder / CARD_FILE)
