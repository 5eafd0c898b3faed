"""`rootless kill`: send a signal to the main process of containers."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, LATEST, all_option, check_selection
from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    all_option("Every running container"),
    CIDFILE,
    LATEST,
    Option(
        "signal", "str", "Signal, by name or number", short="s", default="KILL", complete="signals"
    ),
)


def main(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.lifecycle import kill
    from rootless.container.status import PAUSED, RUNNING
    from rootless.linux.signals import parse

    number = parse(inv.text("signal"))
    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv, wanted=lambda one: one.word in (RUNNING, PAUSED))

    def act(text: str, identity: str) -> str:
        kill(engine, identity, number)
        return text

    return each(chosen, missing, act)


COMMAND = Command(
    "[options] CONTAINER [CONTAINER...]",
    main,
    OPTIONS,
    args=check_selection,
    description="Sends a signal, SIGKILL where none is named, to the main process of running containers.",
    examples=("kill web", "kill --signal HUP web"),
    complete="containers",
)
