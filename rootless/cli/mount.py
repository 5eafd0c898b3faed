"""`rootless mount` and `unmount`: a container's root file system for a look from outside, inside `unshare`."""

from __future__ import annotations

from rootless.cli.options import LATEST, all_option
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

MOUNT_OPTIONS = (
    all_option("Every container"),
    Option("format", "str", "Print as JSON (json)", metavar="json"),
    LATEST,
    Option("no-trunc", "bool", "Print ids in full", aliases=("notruncate",)),
)
UNMOUNT_OPTIONS = (
    all_option("Every container"),
    Option("force", "bool", "Even where something else has mounted it too", short="f"),
    LATEST,
)


def mount(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.cli.many import tell
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.mounting import check_unshared, is_mounted, place_of
    from rootless.container.mounting import mount as do_mount

    check_unshared("mount")
    engine = open_engine(inv.globals)
    table = engine.containers
    if not (inv.args or inv.flag("all") or inv.flag("latest")):
        records = [table.read(identity) for identity in table.ids()]
        _list(inv, [(one, place_of(engine, one)) for one in records if is_mounted(engine, one)])
        return 0
    chosen, errors = select(engine, inv)
    mounted = []
    for _, identity in chosen:
        try:
            mounted.append((table.read(identity), do_mount(engine, identity)))
        except RootlessError as error:
            errors.append(error)
    if len(mounted) == 1 and len(inv.args) == 1 and not inv.text("format"):
        output.line(mounted[0][1])
    else:
        _list(inv, mounted)
    tell(errors)
    return 0


def _list(inv: Invocation, mounted: list[tuple[dict[str, object], str]]) -> None:
    from rootless.cli import output

    if inv.text("format") == "json":
        rows = [
            {"id": record["id"], "Names": [record["name"]], "mountpoint": place}
            for record, place in mounted
        ]
        output.line(output.to_json(rows, 1))
        return
    for record, place in mounted:
        identity = str(record["id"])
        output.line(f"{identity if inv.flag('no-trunc') else identity[:12]}  {place}")


def unmount(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.engine import open_engine
    from rootless.container.mounting import unmount as do_unmount

    engine = open_engine(inv.globals)
    chosen, missing = select(engine, inv)

    def act(text: str, identity: str) -> str | None:
        done = do_unmount(engine, identity)
        return text if done or not inv.flag("all") else None

    return each(chosen, missing, act)


def check_mount(inv: Invocation) -> None:
    if inv.text("format") not in ("", "json"):
        raise Usage(f'invalid --format value "{inv.text("format")}"')
    if inv.flag("all") + inv.flag("latest") + bool(inv.args) > 1:
        raise Usage("--all, --latest and containers cannot be used together")


def check_unmount(inv: Invocation) -> None:
    from rootless.cli.options import check_selection

    check_selection(inv)


MOUNT = Command(
    "[options] [CONTAINER...]",
    mount,
    MOUNT_OPTIONS,
    args=check_mount,
    description="Mounts the roots of containers that do not run and prints where; inside `rootless unshare` only.",
    examples=("unshare sh -c 'ls $(rootless mount web)'",),
    complete="containers",
)
UNMOUNT = Command(
    "[options] CONTAINER [CONTAINER...]",
    unmount,
    UNMOUNT_OPTIONS,
    args=check_unmount,
    description="Unmounts the roots that `rootless mount` has mounted in this shell.",
    examples=("unmount web", "unmount --all"),
    complete="containers",
)
