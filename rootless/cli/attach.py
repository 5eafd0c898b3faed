"""`rootless attach`: join the streams of a running container's main process."""

from __future__ import annotations

from rootless.cli.options import DETACH_KEYS, LATEST, check_names_or_latest
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    DETACH_KEYS,
    LATEST,
    Option("no-stdin", "bool", "Leave standard input alone"),
    Option("sig-proxy", "bool", "Pass on signals to the process", default=True),
)


def check(inv: Invocation) -> None:
    if len(inv.args) > 1:
        raise Usage("`rootless attach` accepts at most one argument")
    check_names_or_latest(inv)


def main(inv: Invocation) -> int:
    from rootless.cli.selection import select
    from rootless.container.attaching import attach
    from rootless.container.engine import open_engine

    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv)
    if missing:
        raise missing[0]
    keys = inv.text("detach-keys") if inv.given("detach-keys") else None
    code = attach(
        engine,
        chosen[0][1],
        stdin=not inv.flag("no-stdin"),
        keys=keys,
        sig_proxy=inv.flag("sig-proxy"),
    )
    return 0 if code is None else code


COMMAND = Command(
    "[options] CONTAINER",
    main,
    OPTIONS,
    args=check,
    description="Joins the terminal or streams of a running container; its exit code becomes this command's.",
    examples=("attach shell", "attach --no-stdin web"),
    complete="containers",
)
