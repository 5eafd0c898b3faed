"""The small subcommands of `rootless container`, and `init` and `rename`."""

from __future__ import annotations

from rootless.cli.options import FORCE_PROMPT, LATEST, PRUNE_FILTER, all_option
from rootless.cli.table import Option

EXISTS_OPTIONS = (
    Option("external", "bool", "Containers of other tools in the same store as well"),
)
PRUNE_OPTIONS = (PRUNE_FILTER, FORCE_PROMPT)
INIT_OPTIONS = (all_option("Every container that has not been initialised"), LATEST)
CLEANUP_OPTIONS = (
    all_option("Every container"),
    Option("exec", "str", "Clean up this exec session, not the container", metavar="id"),
    LATEST,
    Option("rm", "bool", "Remove the container after that"),
    Option("rmi", "bool", "Remove its image after that"),
)
