"""docker-compose.yml: its containers are bounded, and docs/deployment.md has its variables and volumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PAGE = (ROOT / "docs" / "deployment.md").read_text()


def section(title: str) -> str:
    """What stands under a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", SERVICES)
def test_it_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] == 1024


def test_variables_are_documented() -> None:
    names = {
        name
        for row in re.findall(r"^\| (`[A-Z_`, ]+`) \|", section("Compose"), re.MULTILINE)
        for name in re.findall(r"[A-Z_]+", row)
    }
    assert names == set(re.findall(r"\$\{([A-Z_]+)", TEXT))


def test_images_are_documented() -> None:
    ours = {service["image"] for service in SERVICES.values() if "build" in service}
    named = {re.sub(r"\$\{([A-Z]+):-[^}]+\}", r"${\1}", image) for image in ours}
    assert named == set(re.findall(r"`(\$\{IMAGE\}[^`]*)`", section("Compose")))


def test_volumes_are_documented() -> None:
    """Each with the services that have it."""
    mounted = {
        (volume.partition(":")[0], name)
        for name, service in SERVICES.items()
        for volume in service.get("volumes", ())
        if re.match(r"\w+:", volume)
    }
    documented = {
        (volume, name)
        for volume, names in re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", section("Volumes"), re.MULTILINE)
        for name in re.findall(r"`([a-z-]+)`", names)
    }
    assert mounted == documented
    assert {volume for volume, _ in mounted} == set(COMPOSE["volumes"])


def test_selinux_lets_containers_have_folders_of_the_host() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    folders = [volume for volume in volumes if not re.match(r"\w+:", volume)]
    assert len(folders) == 5
    for folder in folders:
        assert "z" in folder.rpartition(":")[2].split(",")
