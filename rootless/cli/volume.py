"""`rootless volume`: storage that outlives containers."""

from __future__ import annotations

import os

from rootless.cli.options import FORCE_PROMPT, all_option, filter_option, format_option, stop_time
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
    from rootless.volume import VolumeStore

    Record = dict[str, Any]

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


def _open(inv: Invocation) -> tuple[Engine, VolumeStore]:
    from rootless.container.engine import open_engine
    from rootless.volume import VolumeStore

    engine = open_engine(inv.globals)
    return engine, VolumeStore(engine.paths)


def _lookup(store: VolumeStore, name: str) -> Record:
    """The volume; the words that `inspect`, `export` and `import` have for a missing one."""
    from rootless.errors import NotFound

    try:
        return store.lookup(name)
    except NotFound:
        raise NotFound(f"no such volume {name}") from None


# create


def create(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.container.env import parse_labels
    from rootless.container.events import emit
    from rootless.errors import Conflict

    engine, store = _open(inv)
    options = {}
    for word in inv.words("opt"):
        key, _, value = word.partition("=")
        options[key] = value
    name = inv.args[0] if inv.args else ""
    try:
        record = store.create(
            name,
            driver=inv.text("driver"),
            labels=parse_labels((), inv.words("label")),
            options=options,
        )
    except Conflict:
        if not inv.flag("ignore"):
            raise
        record = store.read(name)
    else:
        emit(engine, "volume", "create", record["name"], "")
    line(record["name"])
    return 0


# ls


def _filters(engine: Engine, store: VolumeStore, words: Iterable[str]) -> Callable[[Record], bool]:
    from rootless.cli.record_filters import combined, until_ns

    def test_of(key: str, value: str) -> Callable[[Record], bool]:
        if key == "until":
            limit = until_ns(value)
            return lambda record: bool(record["created"] < limit)
        if key in ("since", "after"):
            since = _lookup(store, value)["created"]
            return lambda record: bool(record["created"] > since)
        return _ls_filter(engine, key, value)

    return combined(words, lambda record: record["labels"], test_of)


def _ls_filter(engine: Engine, key: str, value: str) -> Callable[[Record], bool]:
    from rootless.cli.record_filters import has, matching, yes_or_no

    if key == "name":
        fits = matching(value)
        return lambda record: fits(record["name"])
    if key == "driver":
        return lambda record: bool(record["driver"] == value)
    if key == "scope":
        return lambda record: value == "local"
    if key == "opt":
        return lambda record: has(record["options"], value)
    if key == "dangling":
        from rootless.container.volumes import used_names

        wrong = f'"{value}" is not a valid value for the "dangling" filter - must be true or false'
        wanted, used = yes_or_no(value, wrong), used_names(engine)
        return lambda record: (record["name"] not in used) == wanted
    raise Usage(f'"{key}" is an invalid volume filter')


def shown(store: VolumeStore, record: Record) -> Record:
    """A volume as `inspect` prints it, fields that are not always there included."""
    from rootless.container.events import stamp
    from rootless.volume import Settings

    settings = Settings(record["options"])
    used = store.is_used(record["name"])
    return {
        "Name": record["name"],
        "Driver": record["driver"],
        "Mountpoint": store.data(record["name"]),
        "CreatedAt": stamp(record["created"]),
        "Labels": record["labels"],
        "Scope": "local",
        "Options": {**settings.shown, **record["options"]},
        "UID": settings.uid,
        "GID": settings.gid,
        "Anonymous": bool(record["anonymous"]),
        "MountCount": 0,
        "NeedsCopyUp": not used,
        "NeedsChown": not used and not (settings.uid or settings.gid),
        "LockNumber": 0,  # as for containers: there is no pool of locks
    }


_OPTIONAL = ("UID", "GID", "Anonymous", "NeedsCopyUp", "NeedsChown")


def _document(fields: Record) -> Record:
    return {key: value for key, value in fields.items() if value or key not in _OPTIONAL}


def document(engine: Engine, store: VolumeStore, record: Record) -> Record:
    """One volume as `inspect` prints it."""
    fields = shown(store, record)
    _count_mounts(engine, [fields])
    return _document(fields)


def _count_mounts(engine: Engine, records: list[Record]) -> None:
    """How many running containers have each volume mounted, as the kernel has it now."""
    from rootless.container.status import PAUSED, RUNNING, all_statuses

    counts: dict[str, int] = {}
    for status in all_statuses(engine):
        if status.word in (RUNNING, PAUSED):
            for mount in status.record.get("mounts") or ():
                if mount["type"] == "volume":
                    counts[mount["source"]] = counts.get(mount["source"], 0) + 1
    for fields in records:
        fields["MountCount"] = counts.get(fields["Name"], 0)


def ls(inv: Invocation) -> int:
    from rootless.cli import output

    form = inv.text("format")
    if inv.flag("quiet") and inv.given("format"):
        raise Usage("quiet and format flags cannot be used together")
    engine, store = _open(inv)
    fits = _filters(engine, store, inv.words("filter"))
    records = [record for record in store.all() if fits(record)]
    if inv.flag("quiet"):
        output.write("".join(f"{record['name']}\n" for record in records))
        return 0
    if not inv.given("format"):
        rows = [(record["driver"], record["name"]) for record in records]
        if rows and not inv.flag("noheading"):
            rows.insert(0, ("DRIVER", "VOLUME NAME"))
        output.write(output.table(rows))
        return 0
    fields = [shown(store, record) for record in records]
    _count_mounts(engine, fields)
    if form == "json":
        output.line(output.to_json([_document(one) for one in fields], 2))
        return 0
    output.write(_listed(form, fields, heading=not inv.flag("noheading")))
    return 0


def _listed(form: str, fields: list[Record], *, heading: bool) -> str:
    """Volumes by a template; `table TEMPLATE` in columns under their headings."""
    from rootless.cli import output
    from rootless.cli.template import Struct, parse_user

    as_table = form.startswith("table ")
    template = parse_user("volume ls", form.removeprefix("table ").lstrip() if as_table else form)
    data = [Struct(one) for one in fields]
    text = "".join(template.render(one) for one in data)
    if not as_table:
        return text
    rows = [row.split("\t") for row in text.splitlines()]
    if heading and data:
        names = {"Name": "VOLUME NAME"}
        head = {key: names.get(key) or _heading(key) for key in data[0]}
        rows.insert(0, template.render(Struct(head)).rstrip("\n").split("\t"))
    return output.table(rows)


def _heading(field: str) -> str:
    """MOUNT COUNT for MountCount."""
    words = ""
    for at, char in enumerate(field):
        if at and char.isupper() and not field[at - 1].isupper():
            words += " "
        words += char
    return words.upper()


# inspect and exists


def inspect(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.errors import RootlessError

    engine, store = _open(inv)
    found: list[Record] = []
    failed: RootlessError | None = None
    if inv.flag("all"):
        found = [shown(store, record) for record in store.all()]
    for name in inv.args:
        try:
            found.append(shown(store, _lookup(store, name)))
        except RootlessError as error:
            if failed is not None:
                output.report(failed)
            failed = error
    _count_mounts(engine, found)
    form = inv.text("format")
    if form in ("", "json"):
        output.line(output.to_json([_document(one) for one in found], 5))
    else:
        from rootless.cli.template import Struct, parse_user

        template = parse_user("volume inspect", form)
        output.write("".join(template.render(Struct(one)) for one in found))
    if failed is not None:
        raise failed
    return 0


def exists(inv: Invocation) -> int:
    _, store = _open(inv)
    return 0 if store.exists(inv.args[0]) else 1


# rm and prune


def rm(inv: Invocation) -> int:
    from rootless.cli.many import each
    from rootless.container.events import emit
    from rootless.container.lifecycle import remove
    from rootless.container.volumes import users
    from rootless.errors import NotFound

    engine, store = _open(inv)
    store.sweep()
    force = inv.flag("force")
    if inv.given("time") and not force:
        raise Usage("--force option must be specified to use the --time option")
    timeout = stop_time(inv)
    names = [record["name"] for record in store.all()] if inv.flag("all") else inv.args

    def act(text: str, _: str) -> str | None:
        try:
            name = str(store.lookup(text)["name"])
            if force:
                for identity in users(engine, name):
                    try:
                        remove(engine, identity, force=True, timeout_s=timeout)
                    except NotFound:
                        continue
            store.remove(name, lambda: users(engine, name))
        except NotFound as error:
            if force:
                return None
            error.exit_code = 1
            raise
        emit(engine, "volume", "remove", name, "")
        return name

    return each([(name, name) for name in names], [], act)


def prune(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.cli.prompt import agreed

    engine, store = _open(inv)
    names = prune_volumes(engine, inv.words("filter"))
    if not inv.flag("force"):
        warning = (
            "This will remove all volumes not used by at least one container. "
            "The following volumes will be removed:"
        )
        if not names:
            line(f"WARNING! {warning}\nNo dangling volumes found")
            return 0
        if not agreed("\n".join((warning, *names))):
            return 0
    for name in remove_unused(engine, store, names):
        line(name)
    return 0


def prune_volumes(engine: Engine, words: list[str]) -> list[str]:
    """The names of the volumes that no container uses and the filters fit."""
    from rootless.container.volumes import used_names
    from rootless.volume import VolumeStore

    store = VolumeStore(engine.paths)
    store.sweep()
    fits = _filters(engine, store, words)
    used = used_names(engine)
    return [r["name"] for r in store.all() if r["name"] not in used and fits(r)]


def remove_unused(engine: Engine, store: VolumeStore, names: list[str]) -> list[str]:
    """Remove volumes that nothing used a moment ago; those that are gone now."""
    from rootless.container.events import emit
    from rootless.container.volumes import users
    from rootless.errors import Conflict, NotFound

    gone = []
    for name in names:
        try:
            store.remove(name, lambda: users(engine, name))  # noqa: B023
        except (NotFound, Conflict):
            continue  # a container has taken it, or another command removed it
        emit(engine, "volume", "remove", name, "")
        gone.append(name)
    return gone


# content


def export(inv: Invocation) -> int:
    from rootless import volume
    from rootless.errors import RootlessError

    _, store = _open(inv)
    folder = volume.folder_of(store, _lookup(store, inv.args[0]))
    path = inv.text("output")
    if not path:
        if os.isatty(1):
            raise Usage("refusing to write an archive to the terminal: give --output, or redirect")
        volume.export(folder, 1)
        return 0
    try:
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RootlessError(f"open {path}: {(error.strerror or '').lower()}") from None
    try:
        volume.export(folder, out)
    finally:
        os.close(out)
    return 0


def import_(inv: Invocation) -> int:
    from rootless import volume
    from rootless.errors import RootlessError

    _, store = _open(inv)
    folder = volume.folder_of(store, _lookup(store, inv.args[0]))
    path = inv.args[1] if len(inv.args) > 1 else "-"
    if path == "-":
        volume.load(folder, 0)
        return 0
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError(f"open {path}: {(error.strerror or '').lower()}") from None
    try:
        volume.load(folder, source)
    finally:
        os.close(source)
    return 0


def mount(inv: Invocation) -> int:
    """Print where the content is. It is there at all times, and inside `rootless unshare` with its true owners."""
    from rootless.cli.output import line
    from rootless.volume import folder_of

    _, store = _open(inv)
    for name in inv.args:
        line(folder_of(store, store.lookup(name)))
    return 0


def unmount(inv: Invocation) -> int:
    from rootless.cli.output import line

    _, store = _open(inv)
    for name in inv.args:
        line(store.lookup(name)["name"])
    return 0


def reload(inv: Invocation) -> int:
    """Volumes are folders and are read anew by each command: there is no plugin whose list could be old."""
    _open(inv)[1].sweep()
    return 0


CREATE = Command(
    "[options] [NAME]",
    create,
    CREATE_OPTIONS,
    args=(0, 1),
    description="Makes a volume and prints its name.",
    examples=(
        "volume create data",
        "volume create -o type=none -o o=bind -o device=/srv/data data",
    ),
)
LS = Command("[options]", ls, LS_OPTIONS, description="Lists volumes, the oldest first.")
INSPECT = Command(
    "[options] VOLUME [VOLUME...]",
    inspect,
    INSPECT_OPTIONS,
    args=check_inspect,
    description="Shows all about volumes.",
    examples=("volume inspect data", "volume inspect --format '{{.Mountpoint}}' data"),
    complete="volumes",
)
EXISTS = Command(
    "VOLUME",
    exists,
    args=(1, 1),
    description="Ends with 0 where the volume exists, with 1 where not.",
    complete="volumes",
)
RM = Command(
    "[options] VOLUME [VOLUME...]",
    rm,
    RM_OPTIONS,
    args=check_rm,
    description="Removes volumes with all that is in them.",
    examples=("volume rm data", "volume rm --all"),
    complete="volumes",
)
PRUNE = Command(
    "[options]", prune, PRUNE_OPTIONS, description="Removes all volumes that no container uses."
)
EXPORT = Command(
    "[options] VOLUME",
    export,
    EXPORT_OPTIONS,
    args=(1, 1),
    description="Writes what is in a volume as a tar archive.",
    examples=("volume export data --output data.tar",),
    complete="volumes",
)
IMPORT = Command(
    "VOLUME [SOURCE]",
    import_,
    args=(1, 2),
    description="Unpacks a tar archive into a volume, from a file or from standard input.",
    examples=("volume import data data.tar",),
    complete="volumes",
)
MOUNT = Command(
    "NAME [NAME...]",
    mount,
    args=(1, None),
    description="Prints the folder that has a volume's content.",
    examples=("unshare ls -l $(rootless volume mount data)",),
    complete="volumes",
)
UNMOUNT = Command(
    "NAME [NAME...]",
    unmount,
    args=(1, None),
    description="Ends what `volume mount` began: nothing, for a volume is not mounted outside of containers.",
    complete="volumes",
)
RELOAD = Command("", reload, description="Looks for volumes of plugins, of which there are none.")
