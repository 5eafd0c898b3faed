"""`rootless export`: a container's file system as a tar archive."""

from __future__ import annotations

from rootless.cli.table import Option

OPTIONS = (
    Option(
        "output", "str", "Write to this file and not to standard output", short="o", metavar="path"
    ),
)
