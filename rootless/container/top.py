"""The processes of a container, read from the host's /proc.

Nothing of the image is executed or loaded (security case 11): names of users come from the container's account files as
data, opened below its root without a link leading out. Descriptors, headings and formats are those of Podman's `top`.
"""

from __future__ import annotations

import os
import stat
import time

from rootless.container.status import check_access
from rootless.errors import InvalidState, RootlessError
from rootless.linux import fs
from rootless.linux.idmap import read_map, to_container
from rootless.linux.process import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.status import Status

    Range = tuple[int, int, int]

#: Descriptor -> heading.
DESCRIPTORS = {
    "args": "COMMAND",
    "capamb": "AMBIENT CAPS",
    "capbnd": "BOUNDING CAPS",
    "capeff": "EFFECTIVE CAPS",
    "capinh": "INHERITED CAPS",
    "capprm": "PERMITTED CAPS",
    "comm": "COMMAND",
    "etime": "ELAPSED",
    "group": "GROUP",
    "groups": "GROUPS",
    "hgroup": "HGROUP",
    "hgroups": "HGROUPS",
    "hpid": "HPID",
    "huid": "HUID",
    "huser": "HUSER",
    "label": "LABEL",
    "nice": "NI",
    "pcpu": "%CPU",
    "pgid": "PGID",
    "pid": "PID",
    "ppid": "PPID",
    "rgroup": "RGROUP",
    "rss": "RSS",
    "ruser": "RUSER",
    "seccomp": "SECCOMP",
    "state": "STATE",
    "stime": "STIME",
    "time": "TIME",
    "tty": "TTY",
    "uid": "UID",
    "user": "USER",
    "vsz": "VSZ",
}
#: ps(1)'s AIX descriptors.
_AIX = {
    "%C": "pcpu", "%G": "group", "%P": "ppid", "%U": "user", "%a": "args", "%c": "comm", "%g": "rgroup", "%n": "nice",
    "%p": "pid", "%r": "pgid", "%t": "etime", "%u": "ruser", "%x": "time", "%y": "tty", "%z": "vsz",
}  # fmt: skip
DEFAULT = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")

_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}
_LIMIT = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


def parse_descriptors(words: list[str]) -> list[str]:
    """The columns that are asked for; ps(1)'s own options are refused but for a list (`-o user,pid`)."""
    found: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word in ("-o", "-eo", "-Ao"):
            if not words:
                raise RootlessError(
                    f"{word}: a list of columns must follow it, as in {word} user,pid,args"
                )
            word = words.pop(0)
        elif word.startswith(("-eo", "-Ao", "-o")):
            word = word.lstrip("-").lstrip("eA")[1:]
        elif word.startswith("-"):
            raise RootlessError(
                f"{word}: ps(1) is not run in the container, whose program it would be; its options are not known here",
                hint=f"name columns: {','.join(DESCRIPTORS)}",
            )
        for name in word.split(","):
            name = _AIX.get(name, name)
            if name not in DESCRIPTORS:
                raise RootlessError(
                    f"{name}: no such column; ps(1) of the container, which may know it, is not run",
                    hint=f"there are {','.join(DESCRIPTORS)}",
                )
            found.append(name)
    return found or list(DEFAULT)


def processes(status: Status, descriptors: list[str]) -> list[list[str]]:
    """A row of headings and one for each process; InvalidState where the container does not run."""
    if not status.pid or not status.is_running:
        raise InvalidState("top can only be used on running containers")
    check_access(status)
    try:
        view = _View(status.pid)
    except (FileNotFoundError, ProcessLookupError):
        raise InvalidState("top can only be used on running containers") from None
    rows = [[DESCRIPTORS[name] for name in descriptors]]
    for process in view.members():
        try:
            rows.append([getattr(process, name)() for name in descriptors])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while this looked at it
    return rows


class _View:
    """What is the same for all processes of one container."""

    __slots__ = (
        "init",
        "depth",
        "uids",
        "gids",
        "now",
        "boot",
        "in_container",
        "_users",
        "_groups",
        "_host_names",
    )

    def __init__(self, init: int) -> None:
        self.init = init
        self.depth = len(_status(init)["NSpid"].split())
        self.uids = read_map(init, "uid_map")
        self.gids = read_map(init, "gid_map")
        self.now = time.time_ns()
        self.boot = self.now - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.in_container: dict[int, int] = {}  # a pid of the host -> the container's
        self._users: dict[int, str] | None = None
        self._groups: dict[int, str] | None = None
        self._host_names: dict[tuple[str, int], str] = {}

    def members(self) -> list[_Process]:
        """Every process of the pid namespace, also of namespaces below it: their first has its parent here."""
        wanted = os.stat(f"/proc/{self.init}/ns/pid").st_ino
        others: list[_Process] = []
        found: dict[int, _Process] = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                process = _Process(self, int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
            try:
                is_member = os.stat(f"/proc/{name}/ns/pid").st_ino == wanted
            except PermissionError:
                # Not ours to look at: another user's, or a zombie's or helper's that has shut itself.
                is_member = False
            except (FileNotFoundError, ProcessLookupError):
                is_member = False  # a zombie has left its namespaces; its parent tells
            if is_member:
                found[process.number] = process
            else:
                others.append(process)
        grown = True
        while grown:
            grown = False
            for process in others:
                if (
                    process.number not in found
                    and process.parent in found
                    and process.depth >= self.depth
                ):
                    found[process.number] = process
                    grown = True
        self.in_container = {process.number: process.inner for process in found.values()}
        return sorted(found.values(), key=lambda process: process.inner)

    def user(self, uid: int) -> str:
        inner = to_container(self.uids, uid)
        if inner is None:
            return str(uid)
        if self._users is None:
            self._users = _names(self._read("/etc/passwd"))
        return self._users.get(inner, str(inner))

    def group(self, gid: int) -> str:
        inner = to_container(self.gids, gid)
        if inner is None:
            return str(gid)
        if self._groups is None:
            self._groups = _names(self._read("/etc/group"))
        return self._groups.get(inner, str(inner))

    def inner_uid(self, uid: int) -> int:
        inner = to_container(self.uids, uid)
        return uid if inner is None else inner

    def host_name(self, kind: str, number: int) -> str:
        key = (kind, number)
        if key not in self._host_names:
            self._host_names[key] = _host_name(kind, number)
        return self._host_names[key]

    def _read(self, path: str) -> bytes:
        """A regular file of the container; empty where it is anything else or closed to us (security case 16)."""
        try:
            root = os.open(f"/proc/{self.init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            fd = fs.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return b""
        finally:
            os.close(root)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return b""
            return os.read(fd, _LIMIT)
        except OSError:
            return b""
        finally:
            os.close(fd)


class _Process:
    """One process; its methods are the columns."""

    __slots__ = ("view", "number", "fields", "facts", "parent", "inner", "depth")

    def __init__(self, view: _View, number: int) -> None:
        self.view = view
        self.number = number
        data = read_file(f"/proc/{number}/stat")
        self.fields = data[data.rindex(b")") + 2 :].split()
        self.facts = _status(number)
        self.parent = int(self.fields[1])
        numbers = self.facts["NSpid"].split()
        self.depth = len(numbers)
        self.inner = int(numbers[view.depth - 1]) if len(numbers) >= view.depth else number

    def _ids(self, name: str) -> list[int]:
        return [int(word) for word in self.facts.get(name, "").split()]

    def args(self) -> str:
        data = read_file(f"/proc/{self.number}/cmdline")
        if not data:
            return f"[{self.comm()}]"
        return data.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")

    def comm(self) -> str:
        return self.facts["Name"]

    def capamb(self) -> str:
        return self._capabilities("CapAmb")

    def capbnd(self) -> str:
        return self._capabilities("CapBnd")

    def capeff(self) -> str:
        return self._capabilities("CapEff")

    def capinh(self) -> str:
        return self._capabilities("CapInh")

    def capprm(self) -> str:
        return self._capabilities("CapPrm")

    def _capabilities(self, name: str) -> str:
        from rootless.runtime.capabilities import NAMES

        bits = int(self.facts[name], 16)
        if not bits:
            return "none"
        if bits & (1 << len(NAMES)) - 1 == (1 << len(NAMES)) - 1:
            return "full"
        return ",".join(
            sorted(cap.removeprefix("CAP_") for at, cap in enumerate(NAMES) if bits >> at & 1)
        )

    def _started_ns(self) -> int:
        return self.view.boot + int(self.fields[19]) * 1_000_000_000 // _TICKS

    def _cpu_ns(self) -> int:
        return (int(self.fields[11]) + int(self.fields[12])) * 1_000_000_000 // _TICKS

    def etime(self) -> str:
        return duration(max(0, self.view.now - self._started_ns()))

    def group(self) -> str:
        return self.view.group(self._ids("Gid")[1])

    def groups(self) -> str:
        return ",".join(self.view.group(gid) for gid in self._ids("Groups"))

    def hgroup(self) -> str:
        return self.view.host_name("group", self._ids("Gid")[1])

    def hgroups(self) -> str:
        return ",".join(self.view.host_name("group", gid) for gid in self._ids("Groups"))

    def hpid(self) -> str:
        return str(self.number)

    def huid(self) -> str:
        return str(self._ids("Uid")[1])

    def huser(self) -> str:
        return self.view.host_name("user", self._ids("Uid")[1])

    def label(self) -> str:
        try:
            text = (
                read_file(f"/proc/{self.number}/attr/current")
                .rstrip(b"\0\n")
                .decode("utf-8", "replace")
            )
        except OSError:
            return "?"
        return text or "?"

    def nice(self) -> str:
        return self.fields[16].decode()

    def pcpu(self) -> str:
        elapsed = self.view.now - self._started_ns()
        return f"{100 * self._cpu_ns() / elapsed if elapsed > 0 else 0:.3f}"

    def pgid(self) -> str:
        numbers = self.facts.get("NSpgid", "").split()
        return (
            numbers[self.view.depth - 1]
            if len(numbers) >= self.view.depth
            else self.fields[2].decode()
        )

    def pid(self) -> str:
        return str(self.inner)

    def ppid(self) -> str:
        return str(self.view.in_container.get(self.parent, 0))

    def rgroup(self) -> str:
        return self.view.group(self._ids("Gid")[0])

    def rss(self) -> str:
        return self.facts.get("VmRSS", "0").split()[0]

    def ruser(self) -> str:
        return self.view.user(self._ids("Uid")[0])

    def seccomp(self) -> str:
        return _SECCOMP.get(self.facts.get("Seccomp", "0"), "?")

    def state(self) -> str:
        return self.fields[0].decode()

    def stime(self) -> str:
        second = self._started_ns() // 1_000_000_000
        return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(second))

    def time(self) -> str:
        return duration(self._cpu_ns())

    def tty(self) -> str:
        """By number (devpts: major 136 to 143; the console and virtual terminals: 4 and 5)."""
        number = int(self.fields[4])
        if not number:
            return "?"
        major, minor = os.major(number), os.minor(number)
        if 136 <= major <= 143:
            return f"pts/{(major - 136) * 256 + minor}"
        if major == 4:
            return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
        return "console" if (major, minor) == (5, 1) else f"{major}:{minor}"

    def uid(self) -> str:
        return str(self.view.inner_uid(self._ids("Uid")[1]))

    def user(self) -> str:
        return self.view.user(self._ids("Uid")[1])

    def vsz(self) -> str:
        return self.facts.get("VmSize", "0").split()[0]


def _status(number: int) -> dict[str, str]:
    found = {}
    for line in read_file(f"/proc/{number}/status").decode("utf-8", "surrogateescape").split("\n"):
        name, colon, value = line.partition(":\t")
        if colon:
            found[name] = value.strip(" \t") if name != "Name" else value
    return found


def _names(data: bytes) -> dict[int, str]:
    """id -> name from passwd(5) or group(5); the first line of an id counts."""
    found: dict[int, str] = {}
    for line in data.split(b"\n"):
        parts = line.split(b":")
        if len(parts) >= 3 and parts[0] and parts[2].isdigit() and len(parts[2]) < 11:
            found.setdefault(int(parts[2]), parts[0].decode("utf-8", "surrogateescape"))
    return found


def _host_name(kind: str, number: int) -> str:
    try:
        if kind == "user":
            import pwd

            return pwd.getpwuid(number).pw_name
        import grp

        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def duration(span_ns: int) -> str:
    """As Go's time.Duration prints itself: 1h2m3.5s, 20ms."""
    if not span_ns:
        return "0s"
    if span_ns < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if span_ns >= size:
                return f"{_decimal(span_ns, size)}{unit}"
    minutes, rest = divmod(span_ns, 60_000_000_000)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0")
