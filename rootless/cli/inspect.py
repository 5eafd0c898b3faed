"""`rootless inspect`: everything that is known of a container, image, volume, network or pod."""

from __future__ import annotations

from rootless.cli.options import LATEST, format_option
from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

TYPES = ("image", "container", "pod", "network", "volume", "all")

_FORMAT = format_option("Print with a Go template; json for JSON", default="json")
_SIZE = Option("size", "bool", "Show the sizes as well", short="s")

OPTIONS = (
    _FORMAT,
    LATEST,
    _SIZE,
    Option(
        "type",
        "str",
        "Kind of object: " + ", ".join(TYPES),
        short="t",
        default="all",
        metavar="kind",
    ),
)

#: For `container inspect`.
CONTAINER_OPTIONS = (_FORMAT, LATEST, _SIZE)


def check(inv: Invocation) -> None:
    if inv.flag("latest"):
        if inv.args:
            raise Usage("--latest and arguments cannot be used together")
    elif not inv.args:
        raise Usage("no names or ids specified")
