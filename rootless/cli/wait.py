"""`rootless wait`: wait until containers have ended and print their exit codes."""

from __future__ import annotations

from rootless.cli.options import LATEST
from rootless.cli.table import Option

OPTIONS = (
    Option("condition", "csv", "State to wait for in place of stopped", metavar="state"),
    Option("ignore", "bool", "A container that does not exist is no error"),
    Option(
        "interval",
        "str",
        "Time between looks where the kernel cannot tell",
        short="i",
        default="250ms",
    ),
    LATEST,
)
