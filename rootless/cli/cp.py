"""`rootless cp`: copy files between a container and the host, or between containers."""

from __future__ import annotations

from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option("archive", "bool", "Give copied files to the container's user", short="a", default=True),
    Option("overwrite", "bool", "Let a file replace a folder, and a folder a file"),
)


def main(inv: Invocation) -> int:
    from rootless.container.copy import Copy, parse
    from rootless.container.engine import open_engine

    engine = open_engine(inv.globals)
    copy = Copy(engine, archive=inv.flag("archive"), overwrite=inv.flag("overwrite"))
    copy.run(parse(inv.args[0]), parse(inv.args[1]))
    return 0


COMMAND = Command(
    "[options] [CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH",
    main,
    OPTIONS,
    args=(2, 2),
    description="Copies files and folders between a container, running or not, and the host or another container; "
    "- is a tar archive on standard input or output.",
    examples=("cp web:/etc/hosts .", "cp conf web:/etc/app", "cp web:/var/log - | tar tv"),
    complete="containers",
)
