"""`rootless run`: create a container, start it and, unless it is detached, stay with it."""

from __future__ import annotations

from rootless.cli.container_options import RUN

OPTIONS = RUN
