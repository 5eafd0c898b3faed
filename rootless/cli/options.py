"""Options that several commands share, and the checks of arguments that go with them."""

from __future__ import annotations

from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

SIZE = "number[b|k|m|g]"

LATEST = Option("latest", "bool", "The container made last", short="l")
CIDFILE = Option("cidfile", "list", "File with the id of a container", metavar="path")
IGNORE = Option("ignore", "bool", "A container that does not exist is no error", short="i")
DETACH_KEYS = Option(
    "detach-keys",
    "str",
    "Keys that detach from the container",
    default="ctrl-p,ctrl-q",
    metavar="keys",
)
FORCE_PROMPT = Option("force", "bool", "Do not ask first", short="f")
PRUNE_FILTER = Option(
    "filter", "list", "Only what fits: label=, label!=, until=", metavar="key=value"
)
STOP_TIME = Option(
    "time", "int", "Seconds to wait before SIGKILL", short="t", default=10, aliases=("timeout",)
)


def stop_time(inv: Invocation) -> float | None:
    """The seconds of STOP_TIME where they were given, or the container's own hold."""
    return float(inv.number("time")) if inv.given("time") else None


def all_option(help: str) -> Option:
    return Option("all", "bool", help, short="a")


def filter_option(
    help: str = "Only containers that fit, as in status=exited", short: str = "f"
) -> Option:
    return Option("filter", "list", help, short=short, metavar="key=value")


def format_option(
    help: str = "Print as JSON or with a Go template", default: str = "", short: str = "f"
) -> Option:
    return Option("format", "str", help, short=short, default=default, metavar="template")


def check_selection(inv: Invocation) -> None:
    """Names, or one of --all, --latest, --cidfile and --filter in their place; in Podman's order and words."""
    options = inv.options
    every = options.get("all", False)
    latest = options.get("latest", False)
    files = inv.given("cidfile")
    if every + latest + files > 1:
        if files:
            raise Usage("--all, --latest, and --cidfile cannot be used together")
        raise Usage("--all and --latest cannot be used together")
    if inv.args:
        if every:
            raise Usage("no arguments are needed with --all")
        if latest:
            raise Usage("--latest and containers cannot be used together")
        if files:
            raise Usage("no arguments are needed with --latest or --cidfile")
        if options.get("filter"):
            raise Usage("--filter takes no arguments")
    elif not (every or latest or files or options.get("filter")):
        raise Usage("you must provide at least one name or id")


def check_images(inv: Invocation, word: str) -> None:
    """Names of images, or --all in their place; `word` is how the command calls them in Podman."""
    if inv.flag("all") and inv.args:
        raise Usage(f"when using the --all switch, you may not pass any {word} names or IDs")
    if not inv.flag("all") and not inv.args:
        raise Usage("image name or ID must be specified")


def check_names_or_latest(inv: Invocation) -> None:
    """Names, or --latest in their place."""
    if inv.flag("latest"):
        if inv.args:
            raise Usage("--latest and containers cannot be used together")
    elif not inv.args:
        raise Usage(f'"rootless {inv.path}" requires a name, id, or the "--latest" flag')
