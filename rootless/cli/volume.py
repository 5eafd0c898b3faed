"""`rootless volume`: storage that outlives containers."""

from __future__ import annotations

from rootless.cli.options import FORCE_PROMPT, all_option, filter_option, format_option
from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

CREATE_OPTIONS = (
    Option("driver", "str", "Driver", short="d", default="local"),
    Option("ignore", "bool", "A volume that exists is no error"),
    Option("label", "list", "Label", short="l", metavar="key=value"),
    Option(
        "opt", "list", "Option of the driver: type=, device=, o=", short="o", metavar="name=value"
    ),
)
LS_OPTIONS = (
    filter_option("Only volumes that fit, as in dangling=true"),
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("noheading", "bool", "Leave out the headings", short="n"),
    Option("quiet", "bool", "Print the names only", short="q"),
)
INSPECT_OPTIONS = (all_option("Every volume"), format_option(default="json"))
RM_OPTIONS = (
    all_option("Every volume"),
    Option("force", "bool", "Remove containers that use it as well", short="f"),
    Option(
        "time", "int", "Seconds to wait before SIGKILL", short="t", default=10, aliases=("timeout",)
    ),
)
PRUNE_OPTIONS = (
    Option("filter", "list", "Only what fits: label=, label!=, until=", metavar="key=value"),
    FORCE_PROMPT,
)
EXPORT_OPTIONS = (
    Option(
        "output", "str", "Write to this file and not to standard output", short="o", metavar="path"
    ),
)


def check_rm(inv: Invocation) -> None:
    if bool(inv.args) == inv.flag("all"):
        raise Usage("choose either one or more volumes or all")


def check_inspect(inv: Invocation) -> None:
    if bool(inv.args) == inv.flag("all"):
        raise Usage("provide one or more volume names or use --all")
