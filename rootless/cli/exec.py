"""`rootless exec`: run a further process in a running container."""

from __future__ import annotations

from rootless.cli.options import DETACH_KEYS, LATEST
from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

OPTIONS = (
    Option("detach", "bool", "Run in the background and print the session's id", short="d"),
    DETACH_KEYS,
    Option(
        "env",
        "list",
        "Environment variable; with no value, the host's",
        short="e",
        metavar="name[=value]",
    ),
    Option("env-file", "list", "File of environment variables", metavar="path"),
    Option("interactive", "bool", "Keep standard input open", short="i"),
    LATEST,
    Option("preserve-fd", "uints", "Descriptors to pass into the container", metavar="number,..."),
    Option("preserve-fds", "uint", "Number of descriptors from 3 on to pass into the container"),
    Option("privileged", "bool", "Give the process all capabilities that the container may have"),
    Option("tty", "bool", "Give the process a terminal", short="t"),
    Option("user", "str", "User of the process", short="u", metavar="user[:group]"),
    Option("workdir", "str", "Working directory", short="w", metavar="path"),
)


def check(inv: Invocation) -> None:
    if not inv.args and not inv.flag("latest"):
        raise Usage("exec requires the name or ID of a container or the --latest flag")
    if len(inv.args) < (1 if inv.flag("latest") else 2):
        raise Usage("must provide a non-empty command to start an exec session: invalid argument")
