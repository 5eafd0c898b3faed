"""From folders back to archives: a container's changes as an OCI layer, a whole tree as one tar, a list of changes.

The same folder gives the same bytes each time: names sorted, nothing in it that is not in the folder. Runs in the
helper, in the user namespace of the layers. image-spec, layer.md, "Representing Changes".
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.storage import tar, tree
from rootless.storage.extract import OPAQUE, OWNER_XATTR, WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_READ = 1 << 20
_XATTR_PREFIXES = ("user.", "security.capability", "system.posix_acl_")
_XATTR_OWN = ("user.overlay.", "user.containers.", "user.fuseoverlayfs.", "user.rootless.")
_TYPES = {
    stat.S_IFREG: tar.REGULAR,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFIFO: tar.FIFO,
    stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCKDEV,
}


class Archive:
    """Writes nodes of a walk as a tar archive."""

    __slots__ = ("_exclude", "_links", "_waiting", "_waiting_size", "_write")

    def __init__(self, write: Callable[[bytes], object], exclude: Iterable[bytes] = ()) -> None:
        self._write = write
        self._exclude = frozenset(exclude)
        self._links: dict[tuple[int, int], bytes] = {}
        self._waiting: list[bytes] = []
        self._waiting_size = 0

    def add(self, nodes: Iterable[tree.Node]) -> None:
        skipped = b""
        for node in nodes:
            if skipped and node.path.startswith(skipped):
                continue
            if node.path in self._exclude:
                skipped = node.path + b"/"
                continue
            self._node(node)

    def finish(self) -> None:
        self._put(tar.END)
        self._flush()

    def _put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size >= _READ:
            self._flush()

    def _flush(self) -> None:
        self._write(b"".join(self._waiting))
        self._waiting = []
        self._waiting_size = 0

    def _node(self, node: tree.Node) -> None:
        if node.is_whiteout:
            parent, slash, name = node.path.rpartition(b"/")
            self._marker(parent + slash + WHITEOUT + name)
            return
        status = node.status
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return  # a socket lives as long as its process
        entry = tar.Entry(node.path, kind)
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.uid = status.st_uid
        entry.gid = status.st_gid
        entry.mtime = status.st_mtime_ns
        if kind == tar.SYMLINK:
            entry.linkname = node.readlink()
            self._put(tar.header(entry))
            return
        if kind == tar.DIRECTORY:
            entry.name += b"/"
            fd = node.open()
            try:
                _add_xattrs(fd, entry)
            finally:
                os.close(fd)
            self._put(tar.header(entry))
            if node.is_opaque:
                self._marker(node.path + b"/" + OPAQUE)
            return
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            first = self._links.setdefault(key, node.path)
            if first is not node.path:
                entry.type = tar.HARDLINK
                entry.linkname = first
                self._put(tar.header(entry))
                return
        if kind == tar.REGULAR:
            self._file(node, entry)
            return
        if kind in (tar.CHAR, tar.BLOCKDEV):
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._put(tar.header(entry))

    def _marker(self, path: bytes) -> None:
        entry = tar.Entry(path)
        entry.mode = 0o600
        self._put(tar.header(entry))

    def _file(self, node: tree.Node, entry: tar.Entry) -> None:
        fd = node.open()
        try:
            _add_xattrs(fd, entry)
            size = entry.size = os.fstat(fd).st_size
            self._put(tar.header(entry))
            left = size
            while left:
                data = os.read(fd, min(left, _READ))
                if not data:
                    # A running container has cut the file meanwhile; the header promised more.
                    data = bytes(min(left, _READ))
                self._put(data)
                left -= len(data)
            if size % tar.BLOCK:
                self._put(bytes(-size % tar.BLOCK))
        finally:
            os.close(fd)


def _add_xattrs(fd: int, entry: tar.Entry) -> None:
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return
        raise
    for name in sorted(names):
        if name == OWNER_XATTR.decode():
            owner = os.getxattr(fd, name).split(b":")
            if len(owner) >= 3 and owner[0].isdigit() and owner[1].isdigit():
                entry.uid, entry.gid = int(owner[0]), int(owner[1])
            continue
        if not name.startswith(_XATTR_PREFIXES) or name.startswith(_XATTR_OWN):
            continue
        try:
            value = os.getxattr(fd, name)
        except OSError:
            continue
        if entry.xattrs is None:
            entry.xattrs = {}
        entry.xattrs[os.fsencode(name)] = value


def write_layer(upper: int, write: Callable[[bytes], object], exclude: Iterable[bytes]) -> None:
    """Write a folder of changes as a layer, its whiteouts as the image-spec's."""
    archive = Archive(write, exclude)
    archive.add(tree.walk([upper], raw=True))
    archive.finish()


def write_tree(
    layers: list[int], write: Callable[[bytes], object], exclude: Iterable[bytes]
) -> None:
    """Write what layers, topmost first, show together."""
    archive = Archive(write, exclude)
    archive.add(tree.walk(layers))
    archive.finish()


def write_difference(
    trees: list[int], lowers: list[int], write: Callable[[bytes], object], exclude: Iterable[bytes]
) -> None:
    """Write how a whole tree differs from layers, as a layer upon them: for containers that are plain copies."""
    archive = Archive(write, exclude)
    archive.add(_differences(trees, lowers))
    archive.finish()


def _differences(trees: list[int], lowers: list[int]) -> Iterator[tree.Node]:
    before = {node.path: _facts(node.status) for node in tree.walk(lowers)}
    gone = set(before)
    above: list[tree.Node] = []
    written = 0
    for node in tree.walk(trees):
        gone.discard(node.path)
        while above and not node.path.startswith(above[-1].path + b"/"):
            above.pop()
        written = min(written, len(above))
        if before.get(node.path) != _facts(node.status):
            # The folders on the way carry their own owner and mode, or the layer would change them.
            yield from above[written:]
            yield node
            written = len(above) + node.is_folder
        if node.is_folder:
            above.append(node)
    for path in sorted(gone):
        if path.rpartition(b"/")[0] not in gone:
            yield tree.whiteout(path)


ADDED, CHANGED, DELETED = "A", "C", "D"


def changes(upper: int, lowers: list[int]) -> Iterator[tuple[str, bytes]]:
    """Yield what a folder of changes did to the layers below it: kind and path."""
    for node in tree.walk([upper], raw=True):
        if node.is_whiteout:
            if tree.lookup(lowers, node.path) is not None:
                yield DELETED, node.path
        elif tree.lookup(lowers, node.path) is None:
            yield ADDED, node.path
        else:
            yield CHANGED, node.path
            if node.is_opaque:
                yield from _hidden(node, lowers)


def _hidden(node: tree.Node, lowers: list[int]) -> Iterator[tuple[str, bytes]]:
    """What an opaque folder hides and does not have itself."""
    fd = node.open()
    try:
        own = {os.fsencode(name) for name in os.listdir(fd)}
    finally:
        os.close(fd)
    prefix = node.path + b"/"
    for below in tree.walk(lowers):
        if below.path.startswith(prefix):
            name = below.path[len(prefix) :]
            if b"/" not in name and name not in own:
                yield DELETED, below.path


def compare(one: list[int], other: list[int]) -> Iterator[tuple[str, bytes]]:
    """Yield how the tree `one` differs from the tree `other`."""
    before = {node.path: _facts(node.status) for node in tree.walk(other)}
    gone = dict.fromkeys(before)
    for node in tree.walk(one):
        gone.pop(node.path, None)
        facts = before.get(node.path)
        if facts is None:
            yield ADDED, node.path
        elif facts != _facts(node.status):
            yield CHANGED, node.path
    for path in gone:
        yield DELETED, path


def _facts(status: os.stat_result) -> tuple[int, ...]:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        return mode, status.st_uid, status.st_gid, 0, status.st_mtime_ns
    return mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns
