"""`rootless create`: create a container without starting it."""

from __future__ import annotations

from rootless.cli.container_options import CREATE

OPTIONS = CREATE
