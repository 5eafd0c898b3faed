"""`rootless restart`: stop containers and start them again."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, LATEST, STOP_TIME, all_option, filter_option, stop_time
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    all_option("Every container, whatever its state"),
    CIDFILE,
    filter_option(),
    LATEST,
    Option("running", "bool", "Only containers that run"),
    STOP_TIME,
)


def check(inv: Invocation) -> None:
    from rootless.cli.options import check_selection

    if inv.flag("running") and not inv.args:
        if inv.flag("all"):
            raise Usage("--all and --running cannot be used together")
        return
    check_selection(inv)


def main(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.attach import Session
    from rootless.container.engine import open_engine
    from rootless.container.events import container_event
    from rootless.container.lifecycle import Restarting, stop
    from rootless.container.roots import renew
    from rootless.container.status import all_statuses
    from rootless.container.supervise import start

    engine = open_engine(inv.globals)
    if inv.flag("running") and not inv.args:
        chosen = [(one.id, one.id) for one in all_statuses(engine) if one.is_running]
        missing: list[RootlessError] = []
    else:
        chosen, missing = select(engine, inv)
        if inv.flag("running"):
            running = {one.id for one in all_statuses(engine) if one.is_running}
            chosen = [one for one in chosen if one[1] in running]
    timeout = stop_time(inv)

    def act(text: str, identity: str) -> str:
        container_event(engine, engine.containers.read(identity), "restart")
        with Restarting(engine, identity):
            if stop(engine, identity, timeout):
                renew(engine, identity)
            link = start(engine, identity)
            if link is not None:
                Session(link, stdin=False, tty=False, sig_proxy=False).wait_running()
        return text

    return each(chosen, missing, act)


COMMAND = Command(
    "[options] CONTAINER [CONTAINER...]",
    main,
    OPTIONS,
    args=check,
    description="Stops containers, where they run, and starts them again.",
    examples=("restart web", "restart --running"),
    complete="containers",
)
