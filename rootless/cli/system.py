"""`rootless system`: looking after the engine's own data."""

from __future__ import annotations

from rootless.cli.options import FORCE_PROMPT, PRUNE_FILTER, all_option
from rootless.cli.table import Option

DF_OPTIONS = (
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("verbose", "bool", "Each image, container and volume by itself", short="v"),
)
PRUNE_OPTIONS = (
    all_option("Every unused image, named or not"),
    Option("build", "bool", "Containers left by builds"),
    Option("external", "bool", "Data of containers that are not ours"),
    PRUNE_FILTER,
    FORCE_PROMPT,
    Option("volumes", "bool", "Unused volumes as well"),
)
RESET_OPTIONS = (FORCE_PROMPT,)
MIGRATE_OPTIONS = (
    Option("new-runtime", "str", "Another OCI runtime for every container", metavar="runtime"),
)
CHECK_OPTIONS = (
    Option("force", "bool", "Remove damaged images and containers", short="f"),
    Option(
        "max",
        "duration",
        "Age from which an unreferenced layer counts",
        short="m",
        default=24 * 3600 * 10**9,
    ),
    Option("quick", "bool", "Leave out what takes long", short="q"),
    Option("repair", "bool", "Remove damaged images", short="r"),
)
