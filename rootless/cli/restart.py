"""`rootless restart`: stop containers and start them again."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, LATEST, STOP_TIME, all_option, filter_option
from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    all_option("Every container, whatever its state"),
    CIDFILE,
    filter_option(),
    LATEST,
    Option("running", "bool", "Only containers that run"),
    STOP_TIME,
)


def check(inv: Invocation) -> None:
    from rootless.cli.options import check_selection

    if inv.flag("running") and not inv.args:
        if inv.flag("all"):
            raise Usage("--all and --running cannot be used together")
        return
    check_selection(inv)
