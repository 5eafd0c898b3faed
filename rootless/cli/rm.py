"""`rootless rm`: remove containers."""

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
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    all_option("Every container"),
    CIDFILE,
    Option("depend", "bool", "Containers that depend on it as well"),
    filter_option(short=""),
    Option("force", "bool", "Running containers as well; they are stopped first", short="f"),
    IGNORE,
    LATEST,
    STOP_TIME,
    Option("volumes", "bool", "Anonymous volumes of the container as well", short="v"),
)


def main(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.lifecycle import remove
    from rootless.errors import NotFound

    engine = open_engine(inv.globals)
    force = inv.flag("force")
    forgiving = force or inv.flag("ignore")
    chosen, missing = select(engine, inv, ignore=forgiving)
    timeout = stop_time(inv)

    def act(text: str, identity: str) -> str | None:
        try:
            remove(
                engine,
                identity,
                force=force,
                timeout_s=timeout,
                volumes=inv.flag("volumes"),
                depend=inv.flag("depend") or inv.flag("all"),
            )
        except NotFound:
            if not forgiving:
                raise
        return text

    for one in missing:
        one.exit_code = 1  # Podman's word for "did not exist" here
    return each(chosen, missing, act)


def check(inv: Invocation) -> None:
    if inv.given("time") and not inv.flag("force"):
        raise Usage("--force option must be specified to use the --time option")
    check_selection(inv)


COMMAND = Command(
    "[options] CONTAINER [CONTAINER...]",
    main,
    OPTIONS,
    args=check,
    description="Removes containers with all that was written in them.",
    examples=("rm web", "rm --force --volumes web", "rm --all"),
    complete="containers",
)
