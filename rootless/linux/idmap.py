"""Id mappings of user namespaces and how they are written (user_namespaces(7), newuidmap(1))."""

from __future__ import annotations

import os
import stat

from rootless.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Range = tuple[int, int, int]

# Set-uid programs are taken from the system's own folders only, whatever PATH says (security case 51).
_TRUSTED = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/wrappers/bin")

_MAX_EXTENTS = 340  # user_namespaces(7)


class IdMap:
    """Which ids of a container are which ids of the host: ranges (container, host, size)."""

    __slots__ = ("uids", "gids")

    def __init__(self, uids: list[Range], gids: list[Range]) -> None:
        self.uids = uids
        self.gids = gids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self.uids == other.uids and self.gids == other.gids

    def __hash__(self) -> int:
        return hash((tuple(self.uids), tuple(self.gids)))

    def to_json(self) -> dict[str, list[list[int]]]:
        return {"uids": [list(r) for r in self.uids], "gids": [list(r) for r in self.gids]}

    @classmethod
    def from_json(cls, value: dict[str, list[list[int]]]) -> IdMap:
        return cls(
            [(a, b, c) for a, b, c in value["uids"]], [(a, b, c) for a, b, c in value["gids"]]
        )

    @property
    def is_single(self) -> bool:
        """Whether only one id is mapped, as where a user has no subordinate ids."""
        return sum(size for _, _, size in self.uids) == 1


def to_host(ranges: list[Range], identity: int) -> int | None:
    """The id outside that an id inside stands for, or None."""
    for container, host, size in ranges:
        if container <= identity < container + size:
            return host + identity - container
    return None


def to_container(ranges: list[Range], identity: int) -> int | None:
    """The id inside that stands for an id outside, or None."""
    for container, host, size in ranges:
        if host <= identity < host + size:
            return container + identity - host
    return None


class Unmapped(LookupError):
    """The rest of a range, of which at least the first host id has nothing in the map it was looked up in."""

    def __init__(self, container: int, host: int, size: int) -> None:
        super().__init__(container, host, size)
        self.container = container
        self.host = host
        self.size = size


def compose(inner: Iterable[Range], outer: Sequence[Range]) -> list[Range]:
    """The map that `inner` is when its host ids are the container ids of `outer`. Raises Unmapped."""
    found: list[Range] = []
    for inside, middle, size in inner:
        while size:
            for start, host, length in outer:
                if start <= middle < start + length:
                    step = min(size, start + length - middle)
                    found.append((inside, host + middle - start, step))
                    break
            else:
                raise Unmapped(inside, middle, size)
            inside, middle, size = inside + step, middle + step, size - step
    return found


def read_map(pid: int | str, name: str) -> list[Range]:
    """What /proc/PID/uid_map or gid_map says; host ids are those of the reader's own user namespace."""
    with open(f"/proc/{pid}/{name}", "rb") as file:
        lines = file.read().splitlines()
    ranges = []
    for line in lines:
        inside, host, size = line.split()
        ranges.append((int(inside), int(host), int(size)))
    return ranges


def count(ranges: Iterable[Range]) -> int:
    """How many ids are mapped."""
    return sum(size for _, _, size in ranges)


def find_trusted(name: str) -> str | None:
    """A system program by its absolute path, never through PATH."""
    for folder in _TRUSTED:
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK):
            return path
    return None


def write_id_maps(pid: int, idmap: IdMap) -> None:
    """Write both maps of the user namespace of `pid`, which its process has just made.

    Directly where the kernel lets us (one own id, or a privileged caller), else by newuidmap and newgidmap, both at
    once. Raises SetupError that says what is missing on the host.
    """
    if len(idmap.uids) > _MAX_EXTENTS or len(idmap.gids) > _MAX_EXTENTS:
        raise SetupError(f"id mapping: more than {_MAX_EXTENTS} ranges", stage="id map")
    if os.geteuid() == 0:
        _write_direct(pid, "uid_map", idmap.uids)
        _write_direct(pid, "gid_map", idmap.gids)
        return
    own = idmap.uids == [(idmap.uids[0][0], os.geteuid(), 1)] if idmap.uids else False
    own_group = idmap.gids == [(idmap.gids[0][0], os.getegid(), 1)] if idmap.gids else False
    waiting = []
    if own:
        _write_direct(pid, "uid_map", idmap.uids)
    else:
        waiting.append(_spawn("newuidmap", "/etc/subuid", pid, idmap.uids))
    if own_group:
        # Without privilege a group map needs setgroups denied: dropping a group could give access (CVE-2014-8989).
        _write_direct(pid, "setgroups", None)
        _write_direct(pid, "gid_map", idmap.gids)
    else:
        waiting.append(_spawn("newgidmap", "/etc/subgid", pid, idmap.gids))
    failure: SetupError | None = None
    for helper in waiting:
        try:
            helper.wait()
        except SetupError as error:
            failure = failure or error
    if failure:
        raise failure


def write_nested_maps(pid: int, idmap: IdMap, outer: IdMap) -> None:
    """The same from inside `outer`, by its root, for a namespace just made in it."""
    for name, ranges, around in (
        ("uid_map", idmap.uids, outer.uids),
        ("gid_map", idmap.gids, outer.gids),
    ):
        # The map is to the host's ids; the kernel wants those of the namespace around the new one.
        ids_of_outer = [(host, inside, size) for inside, host, size in around]
        try:
            nested = compose(ranges, ids_of_outer)
        except Unmapped as error:
            raise SetupError(
                f"id {error.host} of the host is not mapped in the user namespace around the container's",
                stage="id map",
                hint="map ids that the namespace has, see /proc/self/uid_map in it",
            ) from None
        _write_direct(pid, name, nested)


def _write_direct(pid: int, name: str, ranges: list[Range] | None) -> None:
    text = "deny" if ranges is None else "".join(f"{c} {h} {n}\n" for c, h, n in ranges)
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise SetupError(
            f"cannot write {name} of pid {pid}: {os.strerror(error.errno or 0).lower()}",
            stage="id map",
            errno=error.errno or 0,
        ) from error
    finally:
        os.close(fd)


class _Helper:
    __slots__ = ("name", "table", "path", "pid", "error", "ranges")

    def __init__(
        self, name: str, table: str, path: str, pid: int, error: int, ranges: list[Range]
    ) -> None:
        self.name = name
        self.table = table
        self.path = path
        self.pid = pid
        self.error = error
        self.ranges = ranges

    def wait(self) -> None:
        text = b""
        while chunk := os.read(self.error, 4096):
            text += chunk
        os.close(self.error)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if status == 0:
            return
        said = " ".join(text.decode("utf-8", "replace").split())
        raise SetupError(
            f"{self.name} failed: {said or f'exit status {status}'}",
            stage="id map",
            hint=self._remedy(said),
        )

    def _remedy(self, said: str) -> str:
        try:
            status = os.stat(self.path)
            xattrs = os.listxattr(self.path)
        except OSError:
            return ""
        if not status.st_mode & stat.S_ISUID and "security.capability" not in xattrs:
            return f"{self.path} has lost its set-uid bit: ask for `chmod u+s {self.path}` (package uidmap)"
        if "not allowed" in said or "ranges" in said:
            return f"the ranges are not (any more) this user's in {self.table}"
        if "peration not permitted" in said:
            return (
                f"the kernel refused: is {self.path} on a nosuid file system, or no_new_privs set?"
            )
        return ""


def _spawn(name: str, table: str, pid: int, ranges: list[Range]) -> _Helper:
    path = find_trusted(name)
    if path is None:
        raise SetupError(
            f"{name} is not installed",
            stage="id map",
            hint="install the package uidmap (shadow-utils)",
        )
    words = [name, str(pid)]
    for extent in ranges:
        words += map(str, extent)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.posix_spawn(
            path,
            words,
            {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, writer, 2),
            ],
        )
    except OSError as error:
        os.close(reader)
        raise SetupError(
            f"cannot run {path}: {os.strerror(error.errno or 0).lower()}",
            stage="id map",
            errno=error.errno or 0,
        ) from error
    finally:
        os.close(writer)
    return _Helper(name, table, path, child, reader, ranges)
