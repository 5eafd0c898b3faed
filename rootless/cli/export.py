"""`rootless export`: a container's file system as a tar archive."""

from __future__ import annotations

import os
import stat

from rootless.cli.table import Command, Option
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option(
        "output", "str", "Write to this file and not to standard output", short="o", metavar="path"
    ),
)


def main(inv: Invocation) -> int:
    from rootless.container import events
    from rootless.container.engine import open_engine
    from rootless.container.layers import export

    engine = open_engine(inv.globals)
    path = inv.text("output")
    if not path and os.isatty(1):
        raise RootlessError("refusing to export to terminal. Use -o flag or redirect")
    if ":" in path:
        raise RootlessError(f"invalid filename (should not contain ':') \"{path}\"")
    record = engine.containers.read(engine.containers.lookup(inv.args[0]))
    if not path:
        export(engine, record, 1)
    else:
        try:
            out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RootlessError(f"open {path}: {(error.strerror or '').lower()}") from None
        try:
            export(engine, record, out)
        except BaseException:
            if stat.S_ISREG(os.fstat(out).st_mode):
                os.unlink(path)  # half an archive is of no use
            raise
        finally:
            os.close(out)
    events.container_event(engine, record, "export")
    return 0


COMMAND = Command(
    "[options] CONTAINER",
    main,
    OPTIONS,
    args=(1, 1),
    description="Writes a container's files as a tar archive; volumes and other mounts are not among them.",
    examples=("export web > web.tar", "export --output web.tar web"),
    complete="containers",
)
