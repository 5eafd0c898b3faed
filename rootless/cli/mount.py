"""`rootless mount` and `unmount`: a container's root file system for a look from outside, inside `unshare`."""

from __future__ import annotations

from rootless.cli.options import LATEST, all_option
from rootless.cli.table import Option

MOUNT_OPTIONS = (
    all_option("Every container"),
    Option("format", "str", "Print as JSON (json)", metavar="json"),
    LATEST,
    Option("no-trunc", "bool", "Print ids in full", aliases=("notruncate",)),
)
UNMOUNT_OPTIONS = (
    all_option("Every container"),
    Option("force", "bool", "Even where something else has mounted it too", short="f"),
    LATEST,
)
