"""`rootless load`: take in images from an archive."""

from __future__ import annotations

from rootless.cli.table import Option

OPTIONS = (
    Option("input", "str", "Archive to read in place of standard input", short="i", metavar="path"),
    Option("quiet", "bool", "Print the name only", short="q"),
)
