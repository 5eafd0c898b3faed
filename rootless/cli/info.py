"""`rootless info`: what this machine can do and how the engine uses it."""

from __future__ import annotations

from rootless.cli.options import format_option

OPTIONS = (format_option(),)
