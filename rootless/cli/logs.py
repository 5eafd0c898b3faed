"""`rootless logs`: print what containers have written."""

from __future__ import annotations

from rootless.cli.options import LATEST
from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option("color", "bool", "Give each container's lines a colour of their own"),
    Option("follow", "bool", "Go on until the container ends", short="f"),
    LATEST,
    Option("names", "bool", "Begin each line with the container's name", short="n"),
    Option(
        "since", "str", "Only lines since a time, as in 10m or 2026-01-31T12:00:00", metavar="time"
    ),
    Option(
        "tail",
        "int",
        "Only the last lines of what there is; -1 for all",
        default=-1,
        metavar="lines",
    ),
    Option("timestamps", "bool", "Begin each line with its time", short="t"),
    Option("until", "str", "Only lines until a time", metavar="time"),
)


def check(inv: Invocation) -> None:
    if inv.flag("latest"):
        if inv.args:
            raise Usage("--latest and containers cannot be used together")
    elif not inv.args:
        raise Usage("specify at least one container name or ID to log")
