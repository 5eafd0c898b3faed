"""`rootless diff`: what a container or an image has changed."""

from __future__ import annotations

from rootless.cli.options import LATEST
from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

FORMAT = Option("format", "str", "Print as JSON (json)", metavar="json")
OPTIONS = (FORMAT, LATEST)
IMAGE_OPTIONS = (FORMAT,)


def check(inv: Invocation) -> None:
    if inv.text("format") not in ("", "json"):
        raise Usage("only supported value for '--format' is 'json'")
    if len(inv.args) > 2:
        raise Usage(f"accepts between 1 and 2 arg(s), received {len(inv.args)}")
    from rootless.cli.options import check_names_or_latest

    check_names_or_latest(inv)
