"""`rootless diff`: what a container or an image has changed."""

from __future__ import annotations

from rootless.cli.options import LATEST
from rootless.cli.table import Command, Option
from rootless.errors import NotFound, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

FORMAT = Option("format", "str", "Print as JSON (json)", metavar="json")
OPTIONS = (FORMAT, LATEST)


def main(inv: Invocation) -> int:
    return _diff(inv, only_containers=False)


def container_main(inv: Invocation) -> int:
    return _diff(inv, only_containers=True)


def _diff(inv: Invocation, *, only_containers: bool) -> int:
    from rootless.container.engine import open_engine
    from rootless.container.layers import diff
    from rootless.container.status import all_statuses

    engine = open_engine(inv.globals)
    words = list(inv.args)
    if inv.flag("latest"):
        statuses = all_statuses(engine)
        if not statuses:
            raise NotFound("no containers: no such container")
        words = [statuses[-1].id]
    elif only_containers:
        words = [engine.containers.lookup(word) for word in words]
    found = diff(engine, *words)
    show(found, inv.text("format"))
    return 0


def show(found: list[tuple[str, str]], form: str) -> None:
    """Print changed, added and deleted paths, each with its letter, or as JSON."""
    from rootless.cli import output

    if form == "json":
        groups = {
            name: [path for kind, path in found if kind == letter]
            for name, letter in (("changed", "C"), ("added", "A"), ("deleted", "D"))
        }
        output.line(output.to_json({name: paths for name, paths in groups.items() if paths}, 5))
        return
    for kind, path in found:
        output.line(f"{kind} {path}")


def check(inv: Invocation) -> None:
    if inv.text("format") not in ("", "json"):
        raise Usage("only supported value for '--format' is 'json'")
    if len(inv.args) > 2:
        raise Usage(f"accepts between 1 and 2 arg(s), received {len(inv.args)}")
    from rootless.cli.options import check_names_or_latest

    check_names_or_latest(inv)


COMMAND = Command(
    "[options] {CONTAINER|IMAGE} [{CONTAINER|IMAGE}]",
    main,
    OPTIONS,
    args=check,
    description="Shows what was added (A), changed (C) and deleted (D) in a container or by an image's last layer.",
    examples=("diff web", "diff --format json web", "diff web debian"),
    complete="containers",
)
CONTAINER = Command(
    "[options] CONTAINER [CONTAINER]",
    container_main,
    OPTIONS,
    args=check,
    description="Shows what was added (A), changed (C) and deleted (D) in a container.",
    examples=("container diff web",),
    complete="containers",
)
