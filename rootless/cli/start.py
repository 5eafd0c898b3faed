"""`rootless start`: start containers that exist."""

from __future__ import annotations

from rootless.cli.options import DETACH_KEYS, LATEST, filter_option
from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option("all", "bool", "Every container"),
    Option("attach", "bool", "Stay with the container and show its output", short="a"),
    DETACH_KEYS,
    filter_option(),
    Option("interactive", "bool", "Keep standard input open", short="i"),
    LATEST,
    Option("sig-proxy", "bool", "Pass on signals to the process; the default with --attach"),
)


def check(inv: Invocation) -> None:
    every, latest, attach = inv.flag("all"), inv.flag("latest"), inv.flag("attach")
    if not (inv.args or latest or every or inv.words("filter")):
        raise Usage("start requires at least one argument")
    if every and latest:
        raise Usage("--all and --latest cannot be used together")
    if inv.args and latest:
        raise Usage("--latest and containers cannot be used together")
    if inv.args and every:
        raise Usage("either start all containers or the container(s) provided in the arguments")
    if attach and every:
        raise Usage("you cannot start and attach all containers at once")
    if attach and len(inv.args) > 1:
        raise Usage("you cannot start and attach multiple containers at once")
    if inv.flag("sig-proxy") and not attach:
        raise Usage("you cannot use sig-proxy without --attach: invalid argument")
