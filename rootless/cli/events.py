"""`rootless events`: what has happened to containers, images, volumes and pods."""

from __future__ import annotations

from rootless.cli.options import filter_option
from rootless.cli.table import Option

OPTIONS = (
    filter_option("Only events that fit, as in event=create"),
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("no-trunc", "bool", "Print ids in full", default=True),
    Option(
        "since", "str", "Only events since a time, as in 10m or 2026-01-31T12:00:00", metavar="time"
    ),
    Option("stream", "bool", "Go on with new events", default=True),
    Option("until", "str", "Only events until a time", metavar="time"),
)
