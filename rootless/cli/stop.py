"""`rootless stop`: stop running containers."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, IGNORE, LATEST, STOP_TIME, all_option, filter_option

OPTIONS = (
    all_option("Every running container"),
    CIDFILE,
    filter_option(),
    IGNORE,
    LATEST,
    STOP_TIME,
)
