"""Which of Podman's commands are here; those that are not are in rootless/cli/table.ABSENT, each with the reason."""

from __future__ import annotations

from rootless.cli.table import ABSENT


def is_absent(line: str) -> bool:
    """Whether the command of a line, or a group that it is in, is deliberately not here."""
    parts = line.split()
    return any(" ".join(parts[:count]) in ABSENT for count in range(1, len(parts) + 1))
