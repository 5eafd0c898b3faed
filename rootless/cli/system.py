"""`rootless system`: looking after the engine's own data."""

from __future__ import annotations

from rootless.cli.options import FORCE_PROMPT, PRUNE_FILTER, all_option
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine

DF_OPTIONS = (
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("verbose", "bool", "Each image, container and volume by itself", short="v"),
)
PRUNE_OPTIONS = (
    all_option("Every unused image, named or not"),
    Option("build", "bool", "Containers left by builds as well, which leave none here"),
    Option(
        "external",
        "bool",
        "Data of containers that are not ours",
        refused="nothing but rootless keeps containers in its store",
    ),
    PRUNE_FILTER,
    FORCE_PROMPT,
    Option("volumes", "bool", "Unused volumes as well"),
)
RESET_OPTIONS = (FORCE_PROMPT,)
MIGRATE_OPTIONS = (
    Option(
        "new-runtime",
        "str",
        "Another OCI runtime for every container",
        metavar="runtime",
        refused="a container keeps no runtime: --runtime of each start says which",
    ),
)
CHECK_OPTIONS = (
    Option("force", "bool", "Remove damaged images, and containers of theirs", short="f"),
    Option(
        "max",
        "duration",
        "Age from which an unreferenced layer counts",
        short="m",
        default=24 * 3600 * 10**9,
        refused="unreferenced layers of any age are what the next image command removes",
    ),
    Option("quick", "bool", "Leave out what takes long", short="q"),
    Option("repair", "bool", "Mend what can be mended, remove damaged images", short="r"),
)


# --- df


def df(inv: Invocation) -> int:
    from rootless.container.engine import open_engine

    if inv.flag("verbose") and inv.given("format"):
        raise Usage("cannot combine --format and --verbose flags")
    engine = open_engine(inv.globals)
    if inv.flag("verbose"):
        _show_details(engine)
    else:
        _show_summary(engine, inv)
    return 0


class Summary:
    """One line of `df`."""

    __slots__ = ("active", "kind", "reclaimable", "size", "total")

    def __init__(self, kind: str, total: int, active: int, size: int, reclaimable: int) -> None:
        self.kind = kind
        self.total = total
        self.active = active
        self.size = size
        self.reclaimable = reclaimable

    def fields(self) -> dict[str, Any]:
        from rootless.cli.output import human_size

        percent = f"{100 * self.reclaimable / self.size:.0f}" if self.size else "0"
        return {
            "Type": self.kind,
            "Total": self.total,
            "Active": self.active,
            "RawSize": self.size,
            "RawReclaimable": self.reclaimable,
            "TotalCount": self.total,
            "Size": human_size(self.size),
            "Reclaimable": f"{human_size(self.reclaimable)} ({percent}%)",
        }


def _summaries(engine: Engine) -> list[Summary]:
    from rootless.container import usage

    images = usage.images(engine)
    containers = usage.containers(engine)
    volumes = usage.volumes(engine)
    return [
        Summary(
            "Images",
            len(images),
            sum(one.containers > 0 for one in images),
            usage.images_size(engine),
            sum(one.unique for one in images if not one.containers),
        ),
        Summary(
            "Containers",
            len(containers),
            sum(one.is_active for one in containers),
            sum(one.size for one in containers),
            sum(one.size for one in containers if not one.is_active),
        ),
        Summary(
            "Local Volumes",
            len(volumes),
            sum(one.links > 0 for one in volumes),
            sum(one.size for one in volumes),
            sum(one.size for one in volumes if not one.links),
        ),
    ]


_DF_HEADINGS = {
    "Type": "TYPE",
    "Total": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
    "RawSize": "RAW SIZE",
    "RawReclaimable": "RAW RECLAIMABLE",
    "TotalCount": "TOTAL COUNT",
}


def _show_summary(engine: Engine, inv: Invocation) -> None:
    from rootless.cli import listing, output

    rows = [one.fields() for one in _summaries(engine)]
    form = inv.text("format")
    if listing.is_json(form):
        output.line(output.to_json(rows))
    elif form:
        output.write(listing.render("df", rows, form, _DF_HEADINGS, go_type="system.dfSummary"))
    else:
        names = ("Type", "Total", "Active", "Size", "Reclaimable")
        table = [[_DF_HEADINGS[name] for name in names]]
        table += [[str(row[name]) for name in names] for row in rows]
        output.write(output.table(table))


def _show_details(engine: Engine) -> None:
    import time

    from rootless.cli.output import human_duration, human_size, table, write
    from rootless.cli.ps import Row
    from rootless.container import usage

    now = time.time()
    lines = [
        [
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS",
        ]
    ]
    for image in usage.images(engine):
        size = image.image.size
        sizes = [human_size(size), human_size(size - image.unique), human_size(image.unique)]
        age = human_duration(max(0.0, now - image.image.created))
        for name in image.image.names or ["<none>:<none>"]:
            repository, _, tag = name.rpartition(":")
            lines.append([repository, tag, image.image.id[:12], age, *sizes, str(image.containers)])
    write("Images space usage:\n\n" + table(lines))
    lines = [
        ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"]
    ]
    for container in usage.containers(engine):
        row = Row(container.status, now=now, full=False)
        created = row.created_ago.removesuffix(" ago")
        cells = [row.id, row.image, row.command, str(container.volumes), human_size(container.size)]
        lines.append([*cells, created, container.status.word, container.status.name])
    write("\nContainers space usage:\n\n" + table(lines))
    lines = [["VOLUME NAME", "LINKS", "SIZE"]]
    lines += [[one.name, str(one.links), human_size(one.size)] for one in usage.volumes(engine)]
    write("\nLocal Volumes space usage:\n\n" + table(lines))


# --- prune


def prune(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.filters import split

    for key in split(inv.words("filter")):
        if key not in ("label", "label!", "until"):
            raise Usage(f"{key} is an invalid filter")
    if not inv.flag("force") and not _agreed_to_prune(inv):
        return 0
    engine = open_engine(inv.globals)
    failed: list[RootlessError] = []
    freed = _prune(engine, inv, failed)
    output.line(f"Total reclaimed space: {output.human_size(freed)}")
    for error in failed[:-1]:
        output.report(error)
    if failed:
        raise failed[-1]
    return 0


def _agreed_to_prune(inv: Invocation) -> bool:
    from rootless.cli.prompt import agreed

    everything = inv.flag("all")
    words = ["all stopped containers", "all networks not used by at least one container"]
    if inv.flag("volumes"):
        words.append("all volumes not used by at least one container")
    if inv.flag("build"):
        words.append("all build containers")
    if everything:
        words += [
            "all images without at least one container associated with them",
            "all build cache",
        ]
    else:
        words += ["all dangling images", "all dangling build cache"]
    return agreed("This command removes:\n" + "".join(f"\t- {word}\n" for word in words))


def _prune(engine: Engine, inv: Invocation, failed: list[RootlessError]) -> int:
    """Remove what nothing uses, tell it, and return the bytes that this frees."""
    import time

    from rootless.cli.container import prune_containers
    from rootless.container import usage
    from rootless.container.image_users import image_users
    from rootless.image.collecting import collect
    from rootless.image.filters import compile_filters
    from rootless.image.remove import prune as prune_images

    words = inv.words("filter")
    sizes = {one.status.id: one.size for one in usage.containers(engine)}
    removed = prune_containers(engine, words, failed)
    _told("Deleted Containers", removed)
    freed = sum(sizes.get(identity, 0) for identity in removed)

    store = engine.images
    users = image_users(engine)
    before = usage.images_size(engine)
    fits = compile_filters(store, words, users, time.time())
    _told("Deleted Images", prune_images(store, users, everything=inv.flag("all"), wanted=fits))
    collect(store, users, copies=inv.flag("all"))
    freed += max(0, before - usage.images_size(engine))

    from rootless.cli.network import prune_networks

    _told("Deleted Networks", prune_networks(engine, words))
    if inv.flag("volumes"):
        from rootless.cli.volume import prune_volumes, remove_unused
        from rootless.volume import VolumeStore

        volumes = {one.name: one.size for one in usage.volumes(engine)}
        gone = remove_unused(engine, VolumeStore(engine.paths), prune_volumes(engine, words))
        _told("Deleted Volumes", gone)
        freed += sum(volumes.get(name, 0) for name in gone)
    return freed


def _told(heading: str, names: Sequence[str]) -> None:
    from rootless.cli.output import write

    if names:
        write(f"{heading}\n" + "".join(f"{name}\n" for name in names))


# --- reset, migrate, renumber, check


#: What the engine keeps in its data folder, and nothing else that may lie there.
_DATA = ("containers", "names", "nodes", "volumes", "networks", "pods", "secrets", "tmp")


def reset(inv: Invocation) -> int:
    import os

    from rootless.cli import output
    from rootless.cli.prompt import agreed
    from rootless.container.engine import open_engine
    from rootless.state import remove_tree

    engine = open_engine(inv.globals)
    words = [
        "all containers",
        "all pods",
        "all images",
        "all networks",
        "all build cache",
        "all secrets",
        "all volumes",
        f'the data folder: "{engine.paths.data}"',
        f'the run-time folder: "{engine.paths.run}"',
    ]
    warning = "This will remove:\n" + "".join(f"        - {word}\n" for word in words)
    if not inv.flag("force") and not agreed(warning.rstrip("\n")):
        return 0
    failed = _remove_containers(engine)
    for error in failed:
        output.report(error)
    if failed:
        raise RootlessError("nothing else was removed, because containers are left")
    images = os.path.basename(engine.paths.images)
    for name in (*_DATA, images):
        remove_tree(f"{engine.paths.data}/{name}")
    for path in (engine.paths.events, f"{engine.paths.events}.1"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    remove_tree(engine.paths.run)
    try:
        os.rmdir(engine.paths.data)
    except OSError:
        pass  # something that is not ours lies there
    return 0


def _remove_containers(engine: Engine) -> list[RootlessError]:
    from rootless.container.lifecycle import remove
    from rootless.errors import NotFound

    failed: list[RootlessError] = []
    for identity in engine.containers.ids():
        try:
            remove(engine, identity, force=True, timeout_s=0, volumes=True)
        except NotFound:
            continue
        except RootlessError as error:
            failed.append(error)
    return failed


def settle(inv: Invocation) -> int:
    """Record the ends that killed monitors could not: all that there is to renumber."""
    from rootless.container.engine import open_engine
    from rootless.container.status import all_statuses

    all_statuses(open_engine(inv.globals))
    return 0


def migrate(inv: Invocation) -> int:
    """Unpack layers of before a change of the sub-id ranges again."""
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.image_users import image_users
    from rootless.image.adopt import migrate as migrate_layers

    settle(inv)
    engine = open_engine(inv.globals)
    done = migrate_layers(engine.images, image_users(engine))
    if done.unpacked:
        what = "1 layer" if done.unpacked == 1 else f"{done.unpacked} layers"
        output.line(f"Unpacked {what} again, for the subordinate ids of now")
    for name in done.lost:
        output.line(f"Pull {name} again: neither its blobs nor its files can be read")
    for path in done.left:
        output.line(f"Files of ids that are not yours are left in {path}: sudo rm -rf {path}")
    return 0


def check(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.image_users import image_users
    from rootless.image.check import check as check_images

    engine = open_engine(inv.globals)
    repair = inv.flag("repair") or inv.flag("force")
    users = {} if inv.flag("force") else image_users(engine)
    found = check_images(engine.images, quick=inv.flag("quick"), repair=repair, users=users)
    for one in found:
        output.line(str(one))
    if inv.flag("force"):
        for name in _remove_orphans(engine):
            output.line(f"container {name}: its image was damaged (removed)")
    left = [one for one in found if not one.mended]
    if left:
        raise RootlessError(
            "damage detected in local storage",
            hint="" if repair else "`rootless system check --repair` mends what can be mended",
        )
    return 0


def _remove_orphans(engine: Engine) -> list[str]:
    """Remove the containers whose image is gone; their names."""
    from rootless.container.lifecycle import remove
    from rootless.container.status import all_statuses

    names = []
    for status in all_statuses(engine):
        image = status.record.get("image")
        if image and engine.images.get(image["id"]) is None:
            remove(engine, status.id, force=True, timeout_s=0)
            names.append(status.name)
    return names


DF = Command(
    "[options]",
    df,
    DF_OPTIONS,
    description="Shows what images, containers and volumes hold on the disk, and how much of it nothing uses.",
    examples=("system df", "system df --verbose"),
)
PRUNE = Command(
    "[options]",
    prune,
    PRUNE_OPTIONS,
    description="Removes stopped containers, unused networks and nameless images; with options, more.",
    examples=("system prune", "system prune --all --volumes --force"),
)
RESET = Command(
    "[options]",
    reset,
    RESET_OPTIONS,
    description="Removes everything that the engine keeps: containers, images, volumes, networks, secrets.",
    examples=("system reset",),
)
MIGRATE = Command(
    "[options]",
    migrate,
    MIGRATE_OPTIONS,
    description=(
        "After a change of this user's ranges in /etc/subuid and /etc/subgid, unpacks the images' layers again, whose "
        "files belong to the former ids; and records the ends of containers whose monitor was killed."
    ),
)
RENUMBER = Command(
    "",
    settle,
    description=(
        "Records the ends of containers whose monitor was killed. There are no lock numbers to give anew: "
        "each container has a lock of its own."
    ),
)
CHECK = Command(
    "[options]",
    check,
    CHECK_OPTIONS,
    description="Reads every layer, blob and record again and tells what is damaged.",
    examples=("system check --quick", "system check --repair"),
)
