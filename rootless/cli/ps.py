"""`rootless ps`: list containers."""

from __future__ import annotations

from rootless.cli.options import LATEST
from rootless.cli.table import Option

SORTS = ("command", "created", "id", "image", "names", "runningfor", "size", "status")

OPTIONS = (
    Option("all", "bool", "Containers that do not run as well", short="a"),
    Option(
        "external",
        "bool",
        "Containers of other tools in the same store as well",
        aliases=("storage",),
    ),
    Option(
        "filter",
        "list",
        "Only containers that fit, as in status=exited",
        short="f",
        metavar="key=value",
    ),
    Option(
        "format",
        "str",
        "Print as JSON, or with a Go template; table TEMPLATE for columns",
        metavar="template",
    ),
    Option("last", "int", "The N containers made last, running or not", short="n", default=-1),
    LATEST,
    Option("no-trunc", "bool", "Print ids and commands in full", aliases=("notruncate",)),
    Option("noheading", "bool", "Leave out the headings"),
    Option("ns", "bool", "Show the namespaces", aliases=("namespace",)),
    Option("pod", "bool", "Show each container's pod", short="p"),
    Option("quiet", "bool", "Print the ids only", short="q"),
    Option("size", "bool", "Show the sizes", short="s"),
    Option("sort", "str", "Order", default="created", choices=SORTS),
    Option("sync", "bool", "Ask the kernel for each state (which is always done)"),
    Option("watch", "uint", "Show again every so many seconds", short="w", metavar="seconds"),
)
