"""`rootless port`: the published ports of containers."""

from __future__ import annotations

from rootless.cli.options import LATEST, all_option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (all_option("Every container"), LATEST)


def check(inv: Invocation) -> None:
    every, latest = inv.flag("all"), inv.flag("latest")
    if every and latest:
        raise Usage("--all and --latest cannot be used together")
    if every and inv.args:
        raise Usage("no arguments are needed with --all")
    if len(inv.args) > 2:
        raise Usage("`port` accepts at most 2 arguments")
    if not (inv.args or every or latest):
        raise Usage("you must supply a running container name or id")
