"""`rootless rm`: remove containers."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, IGNORE, LATEST, STOP_TIME, all_option, filter_option
from rootless.cli.table import Option

OPTIONS = (
    all_option("Every container"),
    CIDFILE,
    Option("depend", "bool", "Containers that depend on it as well"),
    filter_option(short=""),
    Option("force", "bool", "Running containers as well; they are stopped first", short="f"),
    IGNORE,
    LATEST,
    STOP_TIME,
    Option("volumes", "bool", "Anonymous volumes of the container as well", short="v"),
)
