"""/dev: nodes bound from the host (a user namespace may not make them), links, and the container's console."""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import SetupError
from rootless.linux import libc
from rootless.linux import mount as m
from rootless.runtime.mounts import open_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# name → (major, minor): runtime-spec, "Default Devices"
DEFAULT = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
# What every container has of its own: the host's, bound over it, would be a way out to the host's terminals.
_SUPPLIED = {*DEFAULT, "console", "ptmx", "pts/ptmx"}
_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)


def open_node(path: str, kind: str, major: int, minor: int) -> int:
    """A detached mount of a host's device node, after a look that it is that node."""
    try:
        fd = m.open_tree(libc.AT_FDCWD, path, m.OPEN_TREE_CLONE)
    except OSError as error:
        raise SetupError(
            f"device {path}: {os.strerror(error.errno or 0).lower()}",
            stage="devices",
            errno=error.errno or 0,
        ) from error
    status = os.fstat(fd)
    right = stat.S_ISBLK(status.st_mode) if kind == "b" else stat.S_ISCHR(status.st_mode)
    if not right or (os.major(status.st_rdev), os.minor(status.st_rdev)) != (major, minor):
        os.close(fd)
        raise SetupError(
            f"device {path}: the host has no {kind} {major}:{minor} there, and a user cannot make one",
            stage="devices",
        )
    return fd


class Devices:
    """The nodes of one container, opened on the host before its root is left."""

    __slots__ = ("fifos", "nodes", "null")

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.nodes: list[tuple[str, int]] = []
        self.fifos: list[dict[str, Any]] = []
        for name, (major, minor) in DEFAULT.items():
            self.nodes.append((f"/dev/{name}", open_node(f"/dev/{name}", "c", major, minor)))
        self.null = self.nodes[0][1]
        for entry in entries:
            path = os.path.normpath(entry["path"])
            if path[:5] == "/dev/" and path[5:] in _SUPPLIED:
                continue
            if entry.get("type") == "p":
                self.fifos.append(entry)
                continue
            kind = "b" if entry.get("type") == "b" else "c"
            self.nodes.append((path, open_node(path, kind, entry["major"], entry["minor"])))

    def attach(self, root: int, *, mounted: bool) -> None:
        """Put the nodes and links in place, upon files of the root's own where nothing is `mounted` at /dev.

        Then those of the specification's list that are not there and cannot be made, since the root lies on a read-only
        file system, are left out.
        """
        try:
            dev = open_target(root, "/dev", directory=True)
        except OSError as error:
            if mounted or error.errno != errno.EROFS:
                raise
            return
        for path, fd in self.nodes:
            target = _make_target(dev, path)
            if target < 0:
                try:
                    target = open_target(root, path, directory=False)
                except OSError as error:
                    if mounted or error.errno != errno.EROFS or path[5:] not in DEFAULT:
                        raise
                    continue
            m.move_mount(fd, target)
            os.close(target)
            if (
                fd != self.null
            ):  # needed again for masked paths: once attached it can be cloned (before 6.15 not earlier)
                os.close(fd)
        for entry in self.fifos:
            make_fifo(root, entry)
        for to, name in _LINKS:
            try:
                os.symlink(to, name, dir_fd=dev)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
        os.close(dev)


def make_fifo(root: int, entry: dict[str, Any]) -> None:
    """A device of type `p`, the one kind that a user may make."""
    folder, _, name = os.path.normpath(entry["path"]).rpartition("/")
    into = open_target(root, folder or "/", directory=True)
    mode = entry.get("fileMode")
    before = os.umask(0)
    try:
        os.mkfifo(name, 0o666 if mode is None else stat.S_IMODE(mode), dir_fd=into)
        os.chown(name, entry.get("uid", 0), entry.get("gid", 0), dir_fd=into, follow_symlinks=False)
    except FileExistsError:
        pass  # of an earlier container of the same root
    except OSError as error:
        raise SetupError(
            f"device {entry['path']}: {os.strerror(error.errno or 0).lower()}", stage="devices"
        ) from error
    finally:
        os.umask(before)
        os.close(into)


def _make_target(dev: int, path: str) -> int:
    """A new file straight in /dev for a node, as all are in one that has just been mounted; -1 where that is not so."""
    name = path[5:]
    if path[:5] != "/dev/" or not name or "/" in name or name == "..":
        return -1
    try:
        return os.open(
            name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=dev
        )
    except OSError:
        return -1


def attach_console(root: int, slave: int) -> None:
    """Bind the terminal's slave, held by descriptor, at /dev/console (security case 5: never by its path)."""
    copy = m.open_tree(slave, "", m.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
    target = open_target(root, "/dev/console", directory=False)
    m.move_mount(copy, target)
    os.close(target)
    os.close(copy)
