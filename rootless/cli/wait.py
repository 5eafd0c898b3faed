"""`rootless wait`: wait until containers have ended and print their exit codes."""

from __future__ import annotations

from rootless.cli.options import LATEST, check_names_or_latest
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option("condition", "csv", "State to wait for in place of stopped", metavar="state"),
    Option("ignore", "bool", "A container that does not exist is no error"),
    Option(
        "interval",
        "str",
        "Time between looks where the kernel cannot tell",
        short="i",
        default="250ms",
    ),
    LATEST,
)


_STATES = ("configured", "created", "exited", "healthy", "initialized", "paused", "removing", "running", "stopped",
           "stopping", "unhealthy")  # fmt: skip


def main(inv: Invocation) -> int:
    from rootless import durations
    from rootless.cli.output import line
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.waiting import wait_for

    conditions = inv.words("condition")
    for word in conditions:
        if word not in _STATES:
            raise Usage(f"unknown container state: {word}: invalid argument")
    interval = inv.text("interval")
    try:
        pause_s = int(interval) / 1000 if interval.isdigit() else durations.parse(interval) / 1e9
    except ValueError as error:
        raise Usage(str(error)) from None
    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv, ignore=inv.flag("ignore"))
    if missing:
        raise missing[0]
    for _, identity in chosen:
        line(str(wait_for(engine, identity, conditions, pause_s)))
    if inv.flag("ignore"):
        for _ in range(len(inv.args) - len(chosen)):
            line("-1")
    return 0


COMMAND = Command(
    "[options] CONTAINER [CONTAINER...]",
    main,
    OPTIONS,
    args=check_names_or_latest,
    description="Waits until containers have ended, or are in another state, and prints their exit codes.",
    examples=("wait web", "wait --condition running web"),
    complete="containers",
)
