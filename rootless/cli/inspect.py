"""`rootless inspect`: everything that is known of a container, image, volume, network or pod."""

from __future__ import annotations

from rootless.cli.options import LATEST, format_option
from rootless.cli.table import Command, Option
from rootless.cli.template_values import Struct
from rootless.errors import NotFound, RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine
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

#: Fields that are maps in Go and lists in Go, so that templates print them as such also where they hold nothing.
MAPS = frozenset(
    (
        "Labels", "Annotations", "Ports", "Networks", "PortBindings", "Tmpfs", "ExposedPorts", "Data", "Volumes",
        "CgroupConf", "DriverOpts",
    )
)  # fmt: skip
LISTS = frozenset(
    (
        "Args", "EffectiveCaps", "BoundingCaps", "ExecIDs", "Mounts", "Dependencies", "Env", "Cmd", "Entrypoint",
        "CreateCommand", "Secrets", "ChrootDirs", "Binds", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "DnsOptions",
        "DnsSearch", "ExtraHosts", "GroupAdd", "Links", "SecurityOpt", "BlkioWeightDevice", "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "Devices", "Ulimits", "Options",
    )
)  # fmt: skip
_TIMES = frozenset(("Created", "StartedAt", "FinishedAt", "CheckpointedAt", "RestoredAt"))
_TYPES = {
    "State": "*define.InspectContainerState",
    "Config": "*define.InspectContainerConfig",
    "HostConfig": "*define.InspectContainerHostConfig",
    "NetworkSettings": "*define.InspectNetworkSettings",
    "GraphDriver": "*define.DriverData",
    "RestartPolicy": "*define.InspectRestartPolicy",
    "LogConfig": "*define.InspectLogConfig",
    "Mounts": "define.InspectMount",
}
# Of a health check, in nanoseconds.
_DURATIONS = frozenset(("Interval", "StartInterval", "StartPeriod", "Timeout"))
# What Go calls a field where the JSON name differs.
_GO_NAMES = {
    "Id": "ID",
    "lockNumber": "LockNumber",
    "sdNotifyMode": "SdNotifyMode",
    "sdNotifySocket": "SdNotifySocket",
}


def main(inv: Invocation) -> int:
    kind = inv.text("type")
    if kind not in TYPES:
        raise Usage(
            f'invalid type "{kind}": must be "image", "container", "pod", "network", "volume", or "all"'
        )
    if kind not in ("container", "all") and inv.flag("size"):
        raise Usage(f'size is not supported for type "{kind}"')
    if inv.flag("latest"):
        if kind not in ("container", "pod", "all"):
            raise Usage(f'latest is not supported for type "{kind}"')
        kind = "container" if kind == "all" else kind
    return inspect(inv, kind)


def container_main(inv: Invocation) -> int:
    return inspect(inv, "container")


def inspect(inv: Invocation, kind: str) -> int:
    """Print what is found, then tell what was not."""
    from rootless.container.engine import open_engine

    engine = open_engine(inv.globals)
    documents: list[tuple[str, Any]] = []
    errors: list[RootlessError] = []
    if inv.flag("latest"):
        documents.append(_latest(engine, kind, size=inv.flag("size")))
    for name in inv.args:
        try:
            documents.append(find(engine, kind, name, size=inv.flag("size")))
        except RootlessError as error:
            errors.append(error)
    show(documents, inv.text("format"))
    if errors:
        import os

        from rootless.cli.output import printable

        for other in errors[1:]:
            os.write(2, (printable(other.message, 2) + "\n").encode("utf-8", "surrogateescape"))
        raise errors[0]
    return 0


def find(engine: Engine, kind: str, name: str, *, size: bool = False) -> tuple[str, Any]:
    """(kind, document) of one object; `all` tries containers, images, volumes, networks and pods, in this order."""
    if kind in ("container", "all"):
        try:
            return "container", container_document(
                engine, engine.containers.lookup(name), size=size
            )
        except NotFound:
            if kind == "container":
                raise NotFound(f"no such container {name}") from None
    for other, document in (
        ("image", _image),
        ("volume", _volume),
        ("network", _network),
        ("pod", _pod),
    ):
        if kind in (other, "all"):
            try:
                return other, document(engine, name)
            except RootlessError:
                # `all` asks about a name that may be another kind's: one that no image can have is none.
                if kind == other:
                    raise
    raise NotFound(f'no such object: "{name}"')


def _latest(engine: Engine, kind: str, *, size: bool) -> tuple[str, Any]:
    if kind == "pod":
        raise NotFound("no pods: no such pod")
    from rootless.container.status import all_statuses

    statuses = all_statuses(engine)
    if not statuses:
        raise NotFound("no containers to inspect")
    return "container", container_document(engine, statuses[-1].id, size=size)


def container_document(engine: Engine, identity: str, *, size: bool = False) -> Any:
    from rootless.container.inspect import inspect as describe
    from rootless.container.status import reconcile, status_of

    status = status_of(engine, identity)
    if status.stale:
        reconcile(engine, identity)
        status = status_of(engine, identity)
    return describe(engine, status, size=size)


def _image(engine: Engine, name: str) -> Any:
    from rootless.image.inspect import describe

    return describe(engine.images, engine.images.lookup(name))


def _volume(engine: Engine, name: str) -> Any:
    from rootless.cli.volume import document
    from rootless.volume import VolumeStore

    store = VolumeStore(engine.paths)
    return document(engine, store, store.lookup(name))


def _network(engine: Engine, name: str) -> Any:
    from rootless import netrecords
    from rootless.cli.network_list import document, with_containers

    try:
        network = netrecords.read(engine.paths, engine.config, name)
    except NotFound as error:
        raise NotFound(f"network {name}: {error.message}") from None
    return document(with_containers(engine, network))


def _pod(engine: Engine, name: str) -> Any:
    raise NotFound(f"no such pod {name}")


def show(documents: list[tuple[str, Any]], template: str) -> None:
    """Print documents as JSON or by a template, an item a line."""
    from rootless.cli import output

    if template in ("", "json"):
        output.line(output.to_json([_shown(kind, document) for kind, document in documents], 5))
        return
    from rootless.cli.template import Template

    source = (
        template.removeprefix("table").lstrip(" \t") if template.startswith("table ") else template
    )
    for old, new in ((".Src", ".Source"), (".Dst", ".Destination"), (".ImageID", ".Image")):
        source = source.replace(old, new)
    parsed = Template("inspect", "{{range .}}" + source + "\n{{end -}}")
    output.write(
        parsed.render([convert("", document, "interface {}") for _, document in documents])
    )


def _shown(kind: str, document: Any) -> Any:
    if kind == "image" and document["HealthCheck"] is None:
        return {key: value for key, value in document.items() if key != "HealthCheck"}
    if kind != "container":
        return document
    from rootless.container.inspect import without_empty

    return without_empty(document)


class _Fields(Struct):
    """A part of a document. As JSON it has that one's names and gaps."""

    __slots__ = ("document", "section")

    def __init__(self, document: dict[str, Any], section: str, go_type: str) -> None:
        super().__init__(go_type=go_type)
        self.document = document
        self.section = section

    def go_json(self) -> Any:
        from rootless.container.inspect import without_empty

        if self.section or "lockNumber" not in self.document:
            return without_empty({self.section: self.document})[self.section]
        return without_empty(self.document)


def convert(key: str, value: Any, go_type: str = "") -> Any:
    """A document as a template sees it: Go's names, times as times, empty lists and maps as such."""
    if isinstance(value, dict):
        if key in MAPS:
            return {name: convert("", item) for name, item in value.items()}
        fields = _Fields(value, key, go_type or _TYPES.get(key, "struct"))
        for name, item in value.items():
            fields[_GO_NAMES.get(name, name)] = convert(name, item)
        if "ID" in fields:
            fields["Id"] = lambda identity=fields["ID"]: identity
        return fields
    if isinstance(value, list):
        return [convert("", item, _TYPES.get(key, "")) for item in value]
    if value is None:
        return {} if key in MAPS or key == "Config" else [] if key in LISTS else None
    if key in _DURATIONS and isinstance(value, int):
        from rootless.cli.gotime import Duration

        return Duration(value)
    if key in _TIMES and isinstance(value, str):
        from rootless.cli.gotime import Time

        return Time(value)
    return value


def check(inv: Invocation) -> None:
    if inv.flag("latest"):
        if inv.args:
            raise Usage("--latest and arguments cannot be used together")
    elif not inv.args:
        raise Usage("no names or ids specified")


COMMAND = Command(
    "[options] {CONTAINER|IMAGE|POD|NETWORK|VOLUME} [...]",
    main,
    OPTIONS,
    args=check,
    description="Shows all that is known of objects, as JSON or by a Go template.",
    examples=("inspect web", "inspect --format '{{.State.Pid}}' web", "inspect --type image host"),
    complete="containers",
)
CONTAINER = Command(
    "[options] CONTAINER [CONTAINER...]",
    container_main,
    CONTAINER_OPTIONS,
    args=check,
    description="Shows all that is known of containers, as JSON or by a Go template.",
    examples=("container inspect web", "container inspect --size --latest"),
    complete="containers",
)
