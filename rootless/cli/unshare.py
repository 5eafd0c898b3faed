"""`rootless unshare`: run a command in the user namespace that containers' files belong to."""

from __future__ import annotations

from rootless.cli.table import Option

OPTIONS = (
    Option("rootless-netns", "bool", "Join the network namespace of user-defined networks as well"),
)
