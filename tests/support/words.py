"""The words of a command's line, read as the program reads them."""

from __future__ import annotations

from rootless.cli.parse import Flags, read
from rootless.cli.table import GLOBALS, Command, Invocation


def parse(path: str, command: Command, given: list[str]) -> Invocation:
    """Read what follows the name of a command."""
    flags = Flags(path)
    flags.add(GLOBALS, flags.globals, set())
    return read(path, command, given, 0, flags)
