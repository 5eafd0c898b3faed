"""`rootless create`: create a container without starting it."""

from __future__ import annotations

from rootless.cli.container_options import CREATE
from rootless.cli.table import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = CREATE


def main(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.cli.run import reporter
    from rootless.container.creation import create
    from rootless.container.engine import open_engine
    from rootless.container.facts import prepare
    from rootless.container.lifecycle import remove
    from rootless.container.options import CreateOptions
    from rootless.container.requirements import joins_stopped

    options = CreateOptions.from_invocation(inv)
    engine = open_engine(inv.globals)
    record = create(engine, options, lambda: reporter(quiet=options.quiet))
    try:
        if not joins_stopped(engine, record):
            # What the spec refuses is said now, not at the first start.
            prepare(engine, record)
    except BaseException:
        remove(engine, record["id"], force=True, volumes=True)
        raise
    line(record["id"])
    return 0


COMMAND = Command(
    "[options] IMAGE [COMMAND [ARG...]]",
    main,
    OPTIONS,
    args=(1, None),
    interspersed=False,
    description="Makes a container and prints its id; `start` runs it.",
    examples=("create --name web -p 8080:80 nginx",),
    complete="images",
)
