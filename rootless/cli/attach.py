"""`rootless attach`: join the streams of a running container's main process."""

from __future__ import annotations

from rootless.cli.options import DETACH_KEYS, LATEST, check_names_or_latest
from rootless.cli.table import Option
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
