"""Walks layers as overlayfs would show them, or one layer as it is, by descriptors and without mounting anything.

Works where overlay does not, and while the container runs or not. No link is ever followed: each folder is opened by
its name in the folder above with O_NOFOLLOW (security case 14). The caller is in the user namespace of the layers.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.linux.tree import FOLDER, MOST_OPEN, Passed
from rootless.storage.extract import MASKED_XATTR, OPAQUE, OPAQUE_XATTR, OWNER_XATTR, WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# fuse-overlayfs writes it beside OPAQUE, as a device; as a file it is the whiteout of `.opq`.
_FUSE_OPAQUE = b".wh..opq"


class Place(Passed):
    """A folder of one layer, open while the walk is near it."""

    __slots__ = ("layer", "path", "top")

    def __init__(self, layer: int, fd: int, top: int, path: bytes) -> None:
        super().__init__(fd)
        self.layer = layer
        self.top = top  # the layer's own, which is the caller's
        self.path = path

    def close(self) -> None:
        if self.fd != self.top:
            super().close()

    def again(self) -> int:
        """The folder once more, from the top of its layer; the caller's."""
        fd = os.dup(self.top) if self.fd < 0 else os.dup(self.fd)
        if self.fd < 0:
            for name in self.path.split(b"/"):
                above = fd
                try:
                    fd = os.open(name, FOLDER, dir_fd=above)
                finally:
                    os.close(above)
        return fd


class Node:
    """One name, in a folder of a layer."""

    __slots__ = ("is_opaque", "is_whiteout", "name", "path", "place", "status")

    def __init__(
        self,
        path: bytes,
        name: bytes,
        place: Place,
        status: os.stat_result,
        is_whiteout: bool = False,
        is_opaque: bool = False,
    ) -> None:
        self.path = path
        self.name = name
        self.place = place
        self.status = status
        self.is_whiteout = is_whiteout
        self.is_opaque = is_opaque

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def open(self) -> int:
        """Open a regular file or folder; anything else that has taken its place meanwhile is an error."""
        folder = self.place.fd
        if folder < 0:
            # The walk has gone far below it meanwhile, or on from there.
            folder = self.place.again()
        try:
            fd = os.open(
                self.name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=folder,
            )
        finally:
            if folder != self.place.fd:
                os.close(folder)
        if stat.S_IFMT(os.fstat(fd).st_mode) != stat.S_IFMT(self.status.st_mode):
            os.close(fd)
            raise OSError(errno.ESTALE, "was replaced while it was read", os.fsdecode(self.path))
        return fd

    def readlink(self) -> bytes:
        return os.readlink(self.name, dir_fd=self.place.fd)


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an entry hides one of a lower layer: overlay's character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: int) -> bool:
    """Whether a folder hides all of the lower layers'."""
    try:
        return os.getxattr(folder, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


def walk(layers: list[int], *, raw: bool = False, plain: bool = False) -> Iterator[Node]:
    """Yield every name below the roots, folders before what is in them, in the order of their bytes.

    The topmost layer comes first. With `raw`, whiteouts and opaque folders of the (single) layer are yielded as such;
    with `plain` it is no layer, and they are files like any other. However deep the folders are: only the innermost ones
    stay open, and the way back is `..`, which has to be the folder that we came from.
    """
    masked = frozenset(
        number for number, root in enumerate(layers) if not plain and is_masked(root)
    )
    levels = [_Level(b"", [Place(number, top, top, b"") for number, top in enumerate(layers)])]
    try:
        levels[0].read(raw, plain, masked)
        while True:
            level = levels[-1]
            if not level.names:
                if len(levels) == 1:
                    return
                levels[-2].come_back(level)
                levels.pop().close()
                continue
            name = level.names.pop()
            found = level.found.pop(name)
            place, status = found[0]
            path = level.path + b"/" + name if level.path else name
            if not stat.S_ISDIR(status.st_mode):
                whiteout = raw and is_whiteout(status)
                yield Node(path, name, place, status, is_whiteout=whiteout)
                continue
            below = _Level(path, [])
            levels.append(below)
            below.open(name, found)
            opaque = bool(raw and below.places and _is_marked(below.places[0].fd))
            yield Node(path, name, place, status, is_opaque=opaque)
            below.read(raw, plain, masked)
            if len(levels) > MOST_OPEN:
                levels[-MOST_OPEN].leave_to(levels[1 - MOST_OPEN])
    finally:
        for level in levels:
            level.close()


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


class _Level:
    """The folders of the layers that are one in what they show, and what in it is still to be visited."""

    __slots__ = ("found", "names", "path", "places")

    def __init__(self, path: bytes, places: list[Place]) -> None:
        self.path = path
        self.places = places
        self.names: list[bytes] = []
        self.found: dict[bytes, list[tuple[Place, os.stat_result]]] = {}

    def open(self, name: bytes, found: list[tuple[Place, os.stat_result]]) -> None:
        for above, _ in found:
            try:
                fd = os.open(name, FOLDER, dir_fd=above.fd)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
            else:
                self.places.append(Place(above.layer, fd, above.top, self.path))

    def close(self) -> None:
        for place in self.places:
            place.close()

    def leave_to(self, below: _Level) -> None:
        """Close what there is a way back to."""
        layers = {place.layer for place in below.places}
        for place in self.places:
            if place.layer in layers:
                place.close()

    def come_back(self, below: _Level) -> None:
        for inner in below.places:
            for place in self.places:
                if place.layer == inner.layer and place.fd < 0:
                    place.reopen(inner.fd)

    def read(self, raw: bool, plain: bool, masked: frozenset[int]) -> None:
        found = self.found
        hidden: set[bytes] = set()
        for place in self.places:
            hides: set[bytes] = set()
            opaque = False
            with os.scandir(place.fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name.startswith(WHITEOUT) and not plain:
                        # What stands for a whiteout where mknod was not allowed.
                        if name == OPAQUE or (name == _FUSE_OPAQUE and _is_device(entry)):
                            opaque = True
                            continue
                        target = name[len(WHITEOUT) :]
                        if raw:
                            found[target] = [(place, _blank())]
                        else:
                            hides.add(target)
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if not (raw or plain) and is_whiteout(status):
                        hides.add(name)
                        continue
                    if name in hidden:
                        continue
                    places = found.setdefault(name, [])
                    # A folder merges with folders below it; everything else hides what is below.
                    if places and not stat.S_ISDIR(status.st_mode):
                        continue
                    if places and not stat.S_ISDIR(places[-1][1].st_mode):
                        continue
                    if place.layer in masked:
                        status = _unmasked(status, name, place.fd)
                    places.append((place, status))
            hidden |= hides
            hidden |= {
                name for name, places in found.items() if not stat.S_ISDIR(places[-1][1].st_mode)
            }
            if opaque or (not (raw or plain) and is_opaque(place.fd)):
                break
        self.names = sorted(found, reverse=True)


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
    nowhere = Place(0, -1, -1, b"")
    return Node(path, path.rpartition(b"/")[2], nowhere, _blank(), is_whiteout=True)


def lookup(layers: list[int], path: bytes) -> os.stat_result | None:
    """What overlayfs would show under a path of layers (topmost first), no link followed; None where nothing is."""
    parts = path.split(b"/")
    current = list(layers)
    below: list[int] = []
    try:
        for depth, name in enumerate(parts):
            last = depth == len(parts) - 1
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
                fd = os.open(name, FOLDER, dir_fd=folder)
                below.append(fd)
                if _is_marked(fd) or is_opaque(folder):
                    break
            if depth:
                _close(current)
            current, below = below, []
            if first is None or not current:
                return None
        return None
    finally:
        if current and current[0] not in layers:
            _close(current)
        _close(below)


def _close(folders: list[int]) -> None:
    for fd in folders:
        os.close(fd)


def _hidden_by_marker(folder: int, name: bytes) -> bool:
    try:
        os.stat(WHITEOUT + name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True
