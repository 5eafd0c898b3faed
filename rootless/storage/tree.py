"""Walks layers as overlayfs would show them, or one layer as it is, by descriptors and without mounting anything.

Works where overlay does not, and while the container runs or not. No link is ever followed: each folder is opened by
its name in the folder above with O_NOFOLLOW (security case 14). The caller is in the user namespace of the layers.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.storage.extract import MASKED_XATTR, OPAQUE, OPAQUE_XATTR, OWNER_XATTR, WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# fuse-overlayfs writes it beside OPAQUE, as a device; as a file it is the whiteout of `.opq`.
_FUSE_OPAQUE = b".wh..opq"


class Node:
    """One name. `folder` is the open folder it is in, valid until the walk goes on."""

    __slots__ = ("folder", "is_opaque", "is_whiteout", "layer", "name", "path", "status")

    def __init__(
        self,
        path: bytes,
        name: bytes,
        folder: int,
        layer: int,
        status: os.stat_result,
        is_whiteout: bool = False,
        is_opaque: bool = False,
    ) -> None:
        self.path = path
        self.name = name
        self.folder = folder
        self.layer = layer
        self.status = status
        self.is_whiteout = is_whiteout
        self.is_opaque = is_opaque

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def open(self) -> int:
        """Open a regular file or folder; anything else that has taken its place meanwhile is an error."""
        fd = os.open(
            self.name,
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            dir_fd=self.folder,
        )
        if stat.S_IFMT(os.fstat(fd).st_mode) != stat.S_IFMT(self.status.st_mode):
            os.close(fd)
            raise OSError(errno.ESTALE, "was replaced while it was read", os.fsdecode(self.path))
        return fd

    def readlink(self) -> bytes:
        return os.readlink(self.name, dir_fd=self.folder)


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: int) -> bool:
    try:
        return os.getxattr(folder, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


def walk(layers: list[int], *, raw: bool = False) -> Iterator[Node]:
    """Yield every name below the roots, folders before what is in them, in the order of their bytes.

    The topmost layer comes first. With `raw`, whiteouts and opaque folders of the (single) layer are yielded as such.
    """
    masked = frozenset(number for number, root in enumerate(layers) if is_masked(root))
    yield from _walk(list(enumerate(layers)), b"", raw, masked)


def is_masked(root: int) -> bool:
    """Whether a layer was made for others (force_mask): its files' owners and modes are in xattrs."""
    try:
        os.getxattr(root, MASKED_XATTR)
    except OSError:
        return False
    return True


def _unmasked(status: os.stat_result, name: bytes, folder: int) -> os.stat_result:
    """A file's status with the owner and mode that it has in its image; links can carry none, and are root's."""
    uid, gid, mode = 0, 0, stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        path = b"/proc/self/fd/%d/%s" % (folder, name)
        try:
            uid, gid, mode = parse_owner(os.getxattr(path, OWNER_XATTR, follow_symlinks=False))
        except (OSError, ValueError):
            pass
    kind = stat.S_IFMT(status.st_mode)
    more = {"st_mtime_ns": status.st_mtime_ns, "st_atime_ns": status.st_atime_ns, "st_rdev": 0}
    return os.stat_result((kind | mode, *status[1:4], uid, gid, *status[6:]), more)


def parse_owner(value: bytes) -> tuple[int, int, int]:
    """uid, gid and mode of an owner's xattr; ValueError where it is none."""
    uid, gid, mode, *_ = value.split(b":")
    return int(uid), int(gid), int(mode, 8) & 0o7777


def _walk(
    layers: list[tuple[int, int]], path: bytes, raw: bool, masked: frozenset[int]
) -> Iterator[Node]:
    found: dict[bytes, list[tuple[int, int, os.stat_result]]] = {}
    hidden: set[bytes] = set()
    for number, folder in layers:
        hides: set[bytes] = set()
        opaque = False
        for entry in os.scandir(folder):
            name = os.fsencode(entry.name)
            if name.startswith(WHITEOUT):
                # What stands for a whiteout where mknod was not allowed.
                if name == OPAQUE or (name == _FUSE_OPAQUE and _is_device(entry)):
                    opaque = True
                    continue
                target = name[len(WHITEOUT) :]
                if raw:
                    found[target] = [(number, folder, _blank())]
                else:
                    hides.add(target)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if is_whiteout(status) and not raw:
                hides.add(name)
                continue
            if name in hidden:
                continue
            places = found.setdefault(name, [])
            # A folder merges with folders below it; everything else hides what is below.
            if places and not stat.S_ISDIR(status.st_mode):
                continue
            if places and not stat.S_ISDIR(places[-1][2].st_mode):
                continue
            if number in masked:
                status = _unmasked(status, name, folder)
            places.append((number, folder, status))
        hidden |= hides
        hidden |= {
            name for name, places in found.items() if not stat.S_ISDIR(places[-1][2].st_mode)
        }
        if opaque or (not raw and is_opaque(folder)):
            break
    for name in sorted(found):
        places = found[name]
        number, folder, status = places[0]
        child = path + b"/" + name if path else name
        if raw and is_whiteout(status):
            yield Node(child, name, folder, number, status, is_whiteout=True)
            continue
        if not stat.S_ISDIR(status.st_mode):
            yield Node(child, name, folder, number, status)
            continue
        opened: list[tuple[int, int]] = []
        try:
            for level, inside, _ in places:
                try:
                    opened.append((level, os.open(name, _FOLDER, dir_fd=inside)))
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
            opaque = bool(raw and opened and _is_marked(opened[0][1]))
            yield Node(child, name, folder, number, status, is_opaque=opaque)
            yield from _walk(opened, child, raw, masked)
        finally:
            for _, fd in opened:
                os.close(fd)


def _is_device(entry: os.DirEntry[str]) -> bool:
    try:
        return is_whiteout(entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return True


def _is_marked(folder: int) -> bool:
    if is_opaque(folder):
        return True
    try:
        os.stat(OPAQUE, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _blank() -> os.stat_result:
    """What a whiteout's lstat looks like."""
    return os.stat_result((stat.S_IFCHR, 0, 0, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": 0})


def whiteout(path: bytes) -> Node:
    """A whiteout that is in no folder yet."""
    return Node(path, path.rpartition(b"/")[2], -1, 0, _blank(), is_whiteout=True)


def lookup(layers: list[int], path: bytes) -> os.stat_result | None:
    """What overlayfs would show under a path of layers (topmost first), no link followed; None where nothing is."""
    parts = path.split(b"/")
    current = list(layers)
    owned: list[int] = []
    try:
        for depth, name in enumerate(parts):
            last = depth == len(parts) - 1
            below: list[int] = []
            first: os.stat_result | None = None
            for folder in current:
                if _hidden_by_marker(folder, name):
                    break
                try:
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    if is_opaque(folder):
                        break
                    continue
                if is_whiteout(status):
                    break
                if first is None:
                    first = status
                    if last:
                        return status
                if not stat.S_ISDIR(status.st_mode):
                    break
                fd = os.open(name, _FOLDER, dir_fd=folder)
                below.append(fd)
                owned.append(fd)
                if _is_marked(fd) or is_opaque(folder):
                    break
            if first is None or not below:
                return None
            current = below
        return None
    finally:
        for fd in owned:
            os.close(fd)


def _hidden_by_marker(folder: int, name: bytes) -> bool:
    try:
        os.stat(WHITEOUT + name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True
