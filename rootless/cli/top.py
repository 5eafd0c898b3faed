"""`rootless top`: the processes of a container."""

from __future__ import annotations

from rootless.cli.options import LATEST
from rootless.cli.table import Command
from rootless.errors import NotFound, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (LATEST,)


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.status import all_statuses, status_of
    from rootless.container.top import parse_descriptors, processes

    engine = open_engine(inv.globals)
    words = list(inv.args)
    if inv.flag("latest"):
        statuses = all_statuses(engine)
        if not statuses:
            raise NotFound(
                "unable to look up requested container: no containers: no such container"
            )
        status = statuses[-1]
    else:
        try:
            status = status_of(engine, engine.containers.lookup(words.pop(0)))
        except NotFound as error:
            raise NotFound(f"unable to look up requested container: {error.message}") from None
    output.write(output.table(processes(status, parse_descriptors(words))))
    return 0


def check(inv: Invocation) -> None:
    if not inv.args and not inv.flag("latest"):
        raise Usage("you must provide the name or id of a running container")


COMMAND = Command(
    "[options] CONTAINER [COLUMN...]",
    main,
    OPTIONS,
    args=check,
    interspersed=False,
    description="Shows the processes of a container as seen from the host; nothing is run in the container.",
    examples=("top web", "top web user,pid,args", "top web hpid seccomp capeff"),
    complete="containers",
)
