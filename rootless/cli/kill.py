"""`rootless kill`: send a signal to the main process of containers."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, LATEST, all_option
from rootless.cli.table import Option

OPTIONS = (
    all_option("Every running container"),
    CIDFILE,
    LATEST,
    Option(
        "signal", "str", "Signal, by name or number", short="s", default="KILL", complete="signals"
    ),
)
