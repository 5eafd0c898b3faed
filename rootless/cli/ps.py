"""`rootless ps`: list containers.

A budget applies: without --format or --filter it loads what reading the records needs and no more.
"""

from __future__ import annotations

import time

from rootless.cli import output
from rootless.cli.options import LATEST
from rootless.cli.table import Command, Option
from rootless.container.engine import open_engine
from rootless.container.status import EXITED, RUNNING, all_statuses
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.cli.template import Struct
    from rootless.container.engine import Engine
    from rootless.container.status import Status

SORTS = ("command", "created", "id", "image", "names", "runningfor", "size", "status")

OPTIONS = (
    Option("all", "bool", "Containers that do not run as well", short="a"),
    Option(
        "external",
        "bool",
        "Containers of other tools in the same store as well: there are none",
        aliases=("storage",),
    ),
    Option(
        "filter",
        "list",
        "Only containers that fit, as in status=exited",
        short="f",
        metavar="key=value",
        complete="container_filters",
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
    Option("sync", "bool", "Ask the kernel for each state, which is always done"),
    Option("watch", "uint", "Show again every so many seconds", short="w", metavar="seconds"),
)

#: How a container that has never run or ended says when: Go's zero time, in Unix seconds.
_NEVER = -62135596800

_HEADINGS = {
    "AutoRemove": "AUTO REMOVE",
    "CIDFile": "CID FILE",
    "CGROUPNS": "CGROUPNS",
    "Cgroup": "CGROUPNS",
    "Command": "COMMAND",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedHuman": "CREATED",
    "ExitCode": "EXIT CODE",
    "Exited": "EXITED",
    "ExitedAt": "EXITED AT",
    "ExposedPorts": "EXPOSED PORTS",
    "ID": "CONTAINER ID",
    "IPC": "IPC",
    "Image": "IMAGE",
    "ImageID": "IMAGE ID",
    "IsInfra": "IS INFRA",
    "Labels": "LABELS",
    "MNT": "MNT",
    "Mounts": "MOUNTS",
    "NET": "NET",
    "Names": "NAMES",
    "Namespaces": "NAMESPACES",
    "Networks": "NETWORKS",
    "PIDNS": "PIDNS",
    "Pid": "PID",
    "Pod": "POD ID",
    "PodName": "PODNAME",
    "Ports": "PORTS",
    "Restarts": "RESTARTS",
    "RunningFor": "RUNNING FOR",
    "Size": "SIZE",
    "StartedAt": "STARTED AT",
    "State": "STATE",
    "Status": "STATUS",
    "USERNS": "USERNS",
    "UTS": "UTS",
    "User": "USERNS",
}
_NAMESPACES = (
    ("Cgroup", "cgroup"),
    ("IPC", "ipc"),
    ("MNT", "mnt"),
    ("NET", "net"),
    ("PIDNS", "pid"),
    ("User", "user"),
    ("UTS", "uts"),
)


class Row:
    """One container as it is listed."""

    __slots__ = ("full", "now", "pods", "sizes", "status")

    def __init__(self, status: Status, *, now: float, full: bool) -> None:
        self.status = status
        self.now = now
        self.full = full
        self.sizes: tuple[int, int] | None = None
        self.pods: dict[str, str] = {}

    @property
    def id(self) -> str:
        return self.status.id if self.full else self.status.id[:12]

    @property
    def image(self) -> str:
        record = self.status.record
        image = record.get("image")
        return str(image["name"]) if image else str(record["options"].get("image", ""))

    @property
    def image_id(self) -> str:
        return str((self.status.record.get("image") or {}).get("id", ""))

    @property
    def words(self) -> list[str]:
        words: list[str] = self.status.record.get("command") or []
        return words

    @property
    def command(self) -> str:
        text = " ".join(self.words)
        return text if self.full or len(text) <= 17 else text[:17] + "..."

    @property
    def created(self) -> float:
        return float(self.status.record["created"]) / 1e9

    @property
    def created_ago(self) -> str:
        return output.human_duration(self.now - self.created) + " ago"

    def _second(self, name: str) -> int:
        value = (self.status.live or {}).get(name) or self.status.state.get(name)
        return int(value) // 1_000_000_000 if value else _NEVER

    @property
    def started(self) -> int:
        return self._second("started_at")

    @property
    def ended(self) -> int:
        return self._second("finished_at") if self.status.word == EXITED else _NEVER

    @property
    def state(self) -> str:
        """The state in words, as "Up 3 seconds (healthy)"."""
        word = self.status.word
        if word == RUNNING:
            text = "Up " + output.human_duration(self.now - self.started)
        elif word == EXITED:
            ago = output.human_duration(self.now - self.ended)
            text = f"Exited ({self.status.exit_code}) {ago} ago"
        else:
            text = word.capitalize()
        if self.status.record.get("health") or self.status.record["options"].get("health"):
            from rootless.container.filters import health_of

            health = health_of(self.status)
            text += f" ({health})" if health else ""
        return text

    @property
    def published(self) -> list[dict[str, Any]]:
        live = self.status.live or {}
        ports: list[dict[str, Any]] = (
            (live.get("network") or {}).get("ports") or self.status.record.get("ports") or []
        )
        return ports

    @property
    def ports(self) -> str:
        published = self.published
        exposed = self.status.record.get("exposed")
        return ports_text(published, exposed or []) if published or exposed else ""

    @property
    def pod(self) -> str:
        identity = str(self.status.record.get("pod", ""))
        return identity if self.full else identity[:12]

    @property
    def pod_name(self) -> str:
        return self.pods.get(str(self.status.record.get("pod", "")), "")

    @property
    def mounts(self) -> list[str]:
        mounts = self.status.record.get("mounts") or []
        places = [mount["destination"] for mount in mounts if mount["type"] != "volume"]
        return places + [mount["destination"] for mount in mounts if mount["type"] == "volume"]

    @property
    def networks(self) -> list[str]:
        return list(self.status.record["options"].get("networks") or ())

    def size(self) -> str:
        if self.sizes is None:
            from rootless import log

            log.error("Size format requires --size option")
            return ""
        own, whole = self.sizes
        return f"{output.human_size(own, 3)} (virtual {output.human_size(whole, 3)})"

    def namespaces(self) -> dict[str, str]:
        """The numbers of the namespaces of a running container."""
        import os

        pid = self.status.pid
        found = {}
        for name, kind in _NAMESPACES if pid else ():
            try:
                found[name] = os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]")
            except OSError:
                continue  # it has just ended
        return found

    def document(self) -> dict[str, Any]:
        """What JSON shows, with Podman's names."""
        from rootless.container.events import stamp

        status, options = self.status, self.status.record["options"]
        sizes = self.sizes
        return {
            "AutoRemove": bool(options.get("rm")),
            "Command": self.words,
            "Created": stamp(int(status.record["created"])),
            "CreatedAt": "",
            "CIDFile": options.get("cidfile", ""),
            "Exited": status.word == EXITED,
            "ExitedAt": self.ended,
            "ExitCode": status.exit_code if status.word == EXITED else 0,
            "ExposedPorts": exposed_map(status.record.get("exposed") or []) or None,
            "Id": status.id,
            "Image": self.image,
            "ImageID": self.image_id,
            "IsInfra": bool(status.record.get("infra")),
            "Labels": status.record.get("labels") or None,
            "Mounts": self.mounts,
            "Names": [status.name],
            "Namespaces": {},
            "Networks": self.networks,
            "Pid": status.pid,
            "Pod": status.record.get("pod", ""),
            "PodName": self.pod_name,
            "Ports": self.published or None,
            "Restarts": int((status.live or status.state).get("restarts", 0)),
            "Size": None if sizes is None else {"rootFsSize": sizes[1], "rwSize": sizes[0]},
            "StartedAt": self.started,
            "State": status.word,
            "Status": "",
        }

    def fields(self) -> Struct:
        """What a template sees: the document, with Podman's methods before it."""
        from rootless.cli.gotime import Time
        from rootless.cli.template import Struct, structs

        document = structs(self.document(), frozenset({"Labels", "ExposedPorts"}))
        document["Labels"] = document["Labels"] or {}
        document["ExposedPorts"] = document["ExposedPorts"] or {}
        created = Time(document["Created"])
        document["Created"] = created
        labels: dict[str, str] = self.status.record.get("labels") or {}
        namespaces = self.namespaces
        methods: dict[str, Callable[..., Any]] = {
            "ID": lambda: self.id,
            "ImageID": lambda: self.image_id if self.full else self.image_id[:12],
            "Label": lambda name: labels.get(name, ""),
            "Pod": lambda: self.pod,
            "Status": lambda: self.state,
            "Restarts": lambda: str(document["Restarts"]),
            "RunningFor": lambda: self.created_ago,
            "Command": lambda: self.command,
            "Size": self.size,
            "Names": lambda: self.status.name,
            "Networks": lambda: ",".join(self.networks),
            "Ports": lambda: self.ports,
            "CreatedAt": lambda: str(created),
            "CreatedHuman": lambda: self.created_ago,
            "Namespaces": lambda: Struct(
                {name: namespaces().get(name, "") for name, _ in _NAMESPACES}
            ),
        }
        for name, _ in _NAMESPACES:
            methods[name] = lambda name=name: namespaces().get(name, "")
        methods["CGROUPNS"], methods["USERNS"] = methods["Cgroup"], methods["User"]
        return Struct(document, "containers.psReporter", methods)


def exposed_map(words: list[str]) -> dict[str, list[str]]:
    """`{"443": ["tcp"]}` of `443/tcp` and `9000-9002/udp`."""
    found: dict[str, list[str]] = {}
    for number, protocol in _exposed(words):
        found.setdefault(str(number), []).append(protocol)
    return found


def _exposed(words: list[str]) -> list[tuple[int, str]]:
    found = set()
    for word in words:
        numbers, _, protocol = word.partition("/")
        first, _, last = numbers.partition("-")
        # An image may say anything here.
        if first.isdecimal() and (last or first).isdecimal():
            for number in range(int(first), min(int(last or first), 65535) + 1):
                found.add((number, protocol or "tcp"))
    return sorted(found, key=lambda port: (port[1], port[0]))


def ports_text(published: list[dict[str, Any]], exposed: list[str]) -> str:
    """Ports as Podman words them: `0.0.0.0:8080->80/tcp, 443/tcp`, neighbours as ranges."""
    parts = []
    taken: set[tuple[int, str]] = set()
    for port in published:
        size = int(port.get("range") or 1)
        host, inside = int(port.get("host_port") or 0), int(port["container_port"])
        address = port.get("host_ip") or "0.0.0.0"
        for protocol in str(port.get("protocol") or "tcp").split(","):
            ends = f"{host}-{host + size - 1}", f"{inside}-{inside + size - 1}"
            left, right = ends if size > 1 else (str(host), str(inside))
            parts.append(f"{address}:{left}->{right}/{protocol}")
            taken.update((inside + step, protocol) for step in range(size))
    run: list[int] = []
    kind = ""
    for number, protocol in [*_exposed(exposed), (0, "")]:
        if (number, protocol) in taken:
            continue
        if run and (protocol != kind or number != run[-1] + 1):
            parts.append(f"{run[0]}/{kind}" if len(run) == 1 else f"{run[0]}-{run[-1]}/{kind}")
            run = []
        if number:
            run.append(number)
            kind = protocol
    return ", ".join(parts)


def check(inv: Invocation) -> None:
    if inv.args:
        raise Usage(f"`rootless {inv.path}` takes no arguments")
    if inv.number("last") >= 0 and inv.flag("latest"):
        raise Usage("last and latest are mutually exclusive")
    if inv.flag("quiet") and (inv.flag("size") or inv.flag("ns")):
        raise Usage("quiet conflicts with size and namespace")
    if inv.flag("size") and inv.flag("ns"):
        raise Usage("size and namespace options conflict")
    if inv.number("watch") and inv.flag("latest"):
        raise Usage("the watch and latest flags cannot be used together")


def choose(engine: Engine, inv: Invocation) -> list[Row]:
    """The containers that the options mean, in the order they ask for."""
    statuses = all_statuses(engine)
    words = inv.words("filter")
    last = inv.number("last")
    if inv.flag("latest"):
        statuses = statuses[-1:]
    elif not (inv.flag("all") or last > 0 or any(word.startswith("status=") for word in words)):
        statuses = [one for one in statuses if one.word == RUNNING]
    if words:
        from rootless.container.filters import matcher

        keep = matcher(engine, words)
        statuses = [one for one in statuses if keep(one)]
    if last > 0:
        statuses = statuses[-last:]
    now = time.time()
    rows = [Row(one, now=now, full=inv.flag("no-trunc")) for one in statuses]
    if inv.flag("size"):
        from rootless.container.size import sizes_of

        for row in rows:
            image = engine.images.get(row.image_id) if row.image_id else None
            row.sizes = sizes_of(engine, row.status.record, image)
    if any(row.status.record.get("pod") for row in rows):
        from rootless.state import Table

        pods = Table(engine.paths, "pod")
        names = {identity: str(pods.read(identity)["name"]) for identity in pods.ids()}
        for row in rows:
            row.pods = names
    sort(rows, inv.text("sort"))
    return rows


def sort(rows: list[Row], key: str) -> None:
    """Podman's orders; the order of making, which is the default, is the one they come in."""
    if key == "command":
        rows.sort(key=lambda row: " ".join(row.words))
    elif key == "id":
        rows.sort(key=lambda row: row.status.id)
    elif key == "image":
        rows.sort(key=lambda row: row.image)
    elif key == "names":
        rows.sort(key=lambda row: row.status.name)
    elif key == "runningfor":
        rows.sort(key=lambda row: row.started)
    elif key == "size":
        rows.sort(key=lambda row: row.sizes[1] if row.sizes else 0)
    elif key == "status":
        rows.sort(key=lambda row: row.status.word)


def main(inv: Invocation) -> int:
    engine = open_engine(inv.globals)
    seconds = inv.number("watch")
    if not seconds:
        show(choose(engine, inv), inv)
        return 0
    while True:
        output.clear_screen()
        show(choose(engine, inv), inv)
        time.sleep(seconds)


def show(rows: list[Row], inv: Invocation) -> None:
    if inv.given("format"):
        show_format(rows, inv)
    elif inv.flag("quiet"):
        output.write("".join(f"{row.id}\n" for row in rows))
    elif inv.flag("ns"):
        show_namespaces(rows, heading=not inv.flag("noheading"))
    else:
        show_table(rows, inv)


def show_table(rows: list[Row], inv: Invocation) -> None:
    pods, sizes = inv.flag("pod"), inv.flag("size")
    lines = []
    if not inv.flag("noheading"):
        heading = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
        lines.append(heading + ["POD ID", "PODNAME"] * pods + ["SIZE"] * sizes)
    for row in rows:
        cells = [
            row.id,
            row.image,
            row.command,
            row.created_ago,
            row.state,
            row.ports,
            row.status.name,
        ]
        if pods:
            cells += [row.pod, row.pod_name]
        if sizes:
            cells.append(row.size())
        lines.append(cells)
    if lines:
        output.write(output.table(lines))


def show_namespaces(rows: list[Row], *, heading: bool) -> None:
    names = [name for name, _ in _NAMESPACES]
    lines = []
    if heading:
        lines.append(["CONTAINER ID", "NAMES", "PID", *(_HEADINGS[name] for name in names)])
    for row in rows:
        found = row.namespaces()
        lines.append(
            [row.id, row.status.name, str(row.status.pid), *(found.get(name, "") for name in names)]
        )
    if lines:
        output.write(output.table(lines))


def show_format(rows: list[Row], inv: Invocation) -> None:
    from rootless.cli import listing

    form = inv.text("format")
    if listing.is_json(form):
        documents = []
        for row in rows:
            document = row.document()
            document["CreatedAt"] = row.created_ago
            document["Status"] = row.state
            document["Created"] = int(row.created)
            if inv.flag("ns"):
                document["Namespaces"] = row.namespaces()
            documents.append(document)
        output.line(output.to_json(documents, 2))
        return
    form = form.replace(".Namespaces.", ".")
    items = [row.fields() for row in rows]
    output.write(listing.render("ps", items, form, _HEADINGS, noheading=inv.flag("noheading")))


COMMAND = Command(
    "[options]",
    main,
    OPTIONS,
    args=check,
    description="Lists the containers that run, or all with --all.",
    examples=("ps -a", "ps --filter status=exited -q", "ps -a --format '{{.Names}} {{.Status}}'"),
)
