"""`rootless top`: the processes of a container."""

from __future__ import annotations

from rootless.cli.options import LATEST
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (LATEST,)


def check(inv: Invocation) -> None:
    if not inv.args and not inv.flag("latest"):
        raise Usage("you must provide the name or id of a running container")
