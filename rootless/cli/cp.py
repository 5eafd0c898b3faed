"""`rootless cp`: copy files between a container and the host, or between containers."""

from __future__ import annotations

from rootless.cli.table import Option

OPTIONS = (
    Option("archive", "bool", "Give copied files to the container's user", short="a", default=True),
    Option("overwrite", "bool", "Let a file replace a folder, and a folder a file"),
)
