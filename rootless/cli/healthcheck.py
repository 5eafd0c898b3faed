"""`rootless healthcheck run`: check a container's health now, and tell by the exit code what came of it."""

from __future__ import annotations

from rootless.cli.table import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation


def main(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.container.engine import open_engine
    from rootless.container.healthcheck import HEALTHY, run_now

    engine = open_engine(inv.globals)
    word = run_now(engine, engine.containers.lookup(inv.args[0]))
    if word == HEALTHY:
        return 0
    line(word)
    return 1


COMMAND = Command(
    "CONTAINER",
    main,
    (),
    args=(1, 1),
    description="Runs a container's health check now, in its monitor; the exit code is 0 where it passes.",
    examples=("healthcheck run web",),
    complete="containers",
)
