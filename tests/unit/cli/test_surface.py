"""Podman's whole surface: every command and every option is here, or is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootless.cli import parse
from rootless.cli.table import ABSENT, ALIASES, COMMANDS, GLOBALS, load
from rootless.errors import Usage

SURFACE = json.loads(Path("tests/data/podman-surface.json").read_text())


@pytest.mark.parametrize("path", SURFACE["commands"])
def test_command(path: str) -> None:
    words = path.split()
    if ALIASES.get(path, path) in COMMANDS:
        assert load(ALIASES.get(path, path)).description
        return
    with pytest.raises(Usage, match="rootless has no command `.*`: ") as caught:
        parse.parse(words)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["run", "create", ""])
def test_options(path: str) -> None:
    options = load(path).options if path else GLOBALS
    ours = {name for option in options for name in (option.name, *option.aliases)}
    assert set(SURFACE[path]) - ours - {"help"} == set()


def test_what_is_there_is_not_called_absent() -> None:
    """Work that brings a command takes its line away."""
    for name in ABSENT:
        below = [path for path in COMMANDS if path == name or path.startswith(f"{name} ")]
        assert below == [], name
