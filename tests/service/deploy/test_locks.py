"""The images' locks are complete, every package in them has its hashes, and the images tell their version."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
LOCKS = ROOT / "deploy" / "locks"
IMAGE = {"python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux"}
OF_CUDA = re.compile(r"cuda|nvidia|triton")  # with PyPI's torch alone
EXTRAS = {
    "service": {"cpu", "tracing"},
    "batch": {"cpu", "tracing", "batch"},
    "service-gpu": {"gpu", "tracing"},
    "training": {"cpu", "train"},
}


def holds(marker: Marker | None, extras: Iterable[str]) -> bool:
    """Whether a requirement is one of the image's."""
    return marker is None or any(marker.evaluate(IMAGE | {"extra": extra}) for extra in extras)


def locked(name: str) -> set[str]:
    """What is installed from a lock."""
    text = (LOCKS / f"{name}.txt").read_text().replace("\\\n", "")
    found = [Requirement(line.partition("--hash")[0]) for line in text.splitlines()]
    return {canonicalize_name(each.name) for each in found if holds(each.marker, [""])}


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_it_has_what_the_project_requires(name: str) -> None:
    wanted = {
        canonicalize_name(each.name)
        for each in map(Requirement, requires("momentum-serve") or ())
        if holds(each.marker, {"", *EXTRAS[name]})
    }
    assert len(wanted) > 10
    assert wanted - {"torch"} <= locked(name)


def test_it_has_what_torch_requires() -> None:
    """For torch is installed by itself, and nothing with it that no hash has been asked of."""
    wanted = {
        canonicalize_name(each.name)
        for each in map(Requirement, requires("torch") or ())
        if holds(each.marker, [""]) and not OF_CUDA.search(each.name)
    }
    assert "sympy" in wanted
    assert wanted | {"mpmath", "markupsafe"} <= locked("training")
    assert "torch" not in locked("training")


def test_batch_adds_to_the_service() -> None:
    """Its image is that of the service and a few packages."""
    service, batch = (
        set(re.findall(r"^\S+==.*", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE))
        for name in ("service", "batch")
    )
    assert service < batch


def test_the_label_is_the_projects_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nARG IMAGE_VERSION={project['version']}\n" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_everything_has_a_hash(path: Path) -> None:
    for block in re.split(r"\n(?=\S)", path.read_text().strip()):
        assert re.match(r"[\w.\[\],-]+==\S", block), block
        assert "--hash=sha256:" in block, block
