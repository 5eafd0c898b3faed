"""`rootless stop`: stop running containers."""

from __future__ import annotations

from rootless.cli.options import (
    CIDFILE,
    IGNORE,
    LATEST,
    STOP_TIME,
    all_option,
    check_selection,
    filter_option,
    stop_time,
)
from rootless.cli.table import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    all_option("Every running container"),
    CIDFILE,
    filter_option(),
    IGNORE,
    LATEST,
    STOP_TIME,
)


def main(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.lifecycle import stop
    from rootless.container.status import INITIALIZED, PAUSED, RUNNING

    engine = open_engine(inv.globals)
    ignore = inv.flag("ignore")
    chosen, missing = select(
        engine, inv, wanted=lambda one: one.word in (RUNNING, PAUSED, INITIALIZED), ignore=ignore
    )
    timeout = stop_time(inv)

    def act(text: str, identity: str) -> str:
        stop(engine, identity, timeout)
        return text

    return each(chosen, missing, act)


COMMAND = Command(
    "[options] CONTAINER [CONTAINER...]",
    main,
    OPTIONS,
    args=check_selection,
    description="Sends the stop signal and, where a container has not ended in time, SIGKILL.",
    examples=("stop web", "stop --time 2 web db", "stop --all"),
    complete="containers",
)
