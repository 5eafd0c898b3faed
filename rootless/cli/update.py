"""`rootless update`: change the limits and the restart policy of a container."""

from __future__ import annotations

from rootless.cli.container_options import HEALTH, RESOURCES, RESTART
from rootless.cli.table import Command
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (*RESOURCES, *HEALTH, RESTART)


def main(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.container.engine import open_engine
    from rootless.container.update import update

    flags = {name: value for name, value in inv.options.items() if inv.given(name)}
    if not flags:
        raise Usage("no parameters are specified to update the container: invalid argument")
    engine = open_engine(inv.globals)
    identity = engine.containers.lookup(inv.args[0])
    update(engine, identity, flags)
    line(identity)
    return 0


COMMAND = Command(
    "[options] CONTAINER",
    main,
    OPTIONS,
    args=(1, 1),
    description="Changes limits, at once where the container runs, and the restart policy.",
    examples=(
        "update --memory 512m web",
        "update --cpus 1.5 --pids-limit 200 web",
        "update --restart on-failure:3 web",
    ),
    complete="containers",
)
