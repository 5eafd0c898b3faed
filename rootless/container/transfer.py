"""Trees as tar streams, packed and unpacked by descriptors: what `cp` moves between a host and a container.

Neither direction follows a link below the folder it is given: each name is opened in the folder above it with
O_NOFOLLOW, so that a link swapped in meanwhile is an error or is copied as a link (security cases 13, 14). What is
unpacked is hostile: names that climb are refused, devices and sockets left out.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import RootlessError
from rootless.linux import tree
from rootless.storage import tar
from rootless.storage.extract import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[[str, int], int]

PIECE = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_XATTRS = ("user.", "security.capability")
_OWN_XATTRS = ("user.overlay.", "user.containers.", "user.fuseoverlayfs.", "user.rootless.")
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


class Packer:
    """Writes an archive to a descriptor. `owner` replaces all owners; `map_owner` translates them."""

    __slots__ = ("out", "owner", "map_owner", "skip_unreadable", "_links")

    def __init__(
        self,
        out: int,
        *,
        owner: tuple[int, int] | None = None,
        map_owner: Callable[[int, int], tuple[int, int]] | None = None,
        skip_unreadable: bool = False,
    ) -> None:
        self.out = out
        self.owner = owner
        self.map_owner = map_owner
        self.skip_unreadable = skip_unreadable
        self._links: dict[tuple[int, int], bytes] = {}

    def finish(self) -> None:
        self._write(tar.END)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.out, view) :]

    def _entry(self, name: bytes, kind: bytes, status: os.stat_result) -> tar.Entry:
        entry = tar.Entry(name, kind)
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.mtime = status.st_mtime_ns
        if self.owner is not None:
            entry.uid, entry.gid = self.owner
        elif self.map_owner is not None:
            entry.uid, entry.gid = self.map_owner(status.st_uid, status.st_gid)
        else:
            entry.uid, entry.gid = status.st_uid, status.st_gid
        return entry

    def folder(self, fd: int, name: bytes, skip: tuple[str, ...] = ()) -> None:
        """A folder with all in it; without an entry of its own where the name is empty. Takes the descriptor.

        However deep that goes (linux/tree.py). What vanishes meanwhile is left out.
        """
        paths: list[bytes] = []

        def enter(above: int | None, child: str | bytes) -> tuple[int, list[str]] | None:
            path, found = (_join(paths[-1], child), -1) if above is not None else (name, fd)
            try:
                if above is not None:
                    found = self._child(above, child, path)
                    if found < 0:
                        return None
                if path:
                    entry = self._entry(path + b"/", tar.DIRECTORY, os.fstat(found))
                    _take_xattrs(found, entry)
                    self._write(tar.header(entry))
                # Taken from the end; a file among them is packed, and not entered.
                names = sorted(os.listdir(found), reverse=True)
            except BaseException as error:
                if found >= 0:
                    os.close(found)
                if above is not None and isinstance(error, OSError) and self._is_passed_over(error):
                    return None
                raise
            paths.append(path)
            return found, [one for one in names if above is not None or one not in skip]

        def leave(above: int | None, child: str | bytes) -> None:
            paths.pop()

        tree.walk(None, name, enter, leave)

    def _child(self, parent: int, name: str | bytes, archived: bytes) -> int:
        """Pack one name in a folder, of whatever kind; a folder is opened instead, and anything else -1."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            return os.open(name, _FOLDER, dir_fd=parent)
        if kind == stat.S_IFREG:
            self.file(os.open(name, _READ, dir_fd=parent), archived)
        elif kind == stat.S_IFLNK:
            entry = self._entry(archived, tar.SYMLINK, status)
            entry.linkname = os.readlink(os.fsencode(name), dir_fd=parent)
            self._write(tar.header(entry))
        elif kind == stat.S_IFIFO:
            self._write(tar.header(self._entry(archived, tar.FIFO, status)))
        return -1

    def _is_passed_over(self, error: OSError) -> bool:
        if error.errno in (errno.EACCES, errno.EPERM):
            return self.skip_unreadable
        return error.errno in _GONE

    def file(self, fd: int, archived: bytes) -> None:
        """A regular file; anything else that took its place is left out. Takes the descriptor."""
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            entry = self._entry(archived, tar.REGULAR, status)
            key = (status.st_dev, status.st_ino)
            if status.st_nlink > 1:
                first = self._links.setdefault(key, archived)
                if first is not archived:
                    entry.type, entry.linkname = tar.HARDLINK, first
                    self._write(tar.header(entry))
                    return
            _take_xattrs(fd, entry)
            size = entry.size = status.st_size
            self._write(tar.header(entry))
            left = size
            while left:
                sent = os.sendfile(self.out, fd, None, min(left, 1 << 30))
                if not sent:
                    # Cut off meanwhile; the header promised more.
                    self._write(bytes(min(left, PIECE)))
                    sent = min(left, PIECE)
                left -= sent
            self._write(bytes(-size % tar.BLOCK))
        finally:
            os.close(fd)


def _join(folder: bytes, name: str | bytes) -> bytes:
    return folder + b"/" + os.fsencode(name) if folder else os.fsencode(name)


def _take_xattrs(fd: int, entry: tar.Entry) -> None:
    try:
        for name in os.listxattr(fd):
            if name.startswith(_XATTRS) and not name.startswith(_OWN_XATTRS):
                if entry.xattrs is None:
                    entry.xattrs = {}
                entry.xattrs[os.fsencode(name)] = os.getxattr(fd, name)
    except OSError:
        pass  # a file system without them


def pack_path(
    packer: Packer,
    opener: Open,
    path: str,
    name: str,
    *,
    contents: bool,
    skip: tuple[str, ...] = (),
) -> None:
    """Pack what a path leads to under `name`; of a folder, with `contents`, only what is in it."""
    fd = opener(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        packer.folder(fd, b"" if contents else os.fsencode(name), skip)
    elif stat.S_ISREG(os.fstat(fd).st_mode):
        packer.file(fd, os.fsencode(name))
    else:
        os.close(fd)
        raise RootlessError(f"{path}: neither a file nor a folder, and cannot be copied")
    packer.finish()


class Unpacker:
    """Writes an archive's entries below a folder.

    `owner` is given to everything; with `keep_owner` the archive's owners are. Without either the files are the
    caller's own, and no set-uid or set-gid bit comes with them.
    """

    __slots__ = ("top", "owner", "keep_owner", "overwrite", "_times")

    def __init__(
        self,
        top: int,
        *,
        owner: tuple[int, int] | None = None,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.top = top
        self.owner = owner
        self.keep_owner = keep_owner
        self.overwrite = overwrite
        self._times: list[tuple[bytes, tar.Entry]] = []

    def run(self, next_block: Callable[[], bytes]) -> None:
        source = tar.Input(next_block)
        reader = tar.Reader(source)
        while (entry := reader.next()) is not None:
            try:
                self._entry(entry, source)
            except OSError as error:
                raise OSError(
                    error.errno, os.strerror(error.errno or 0), os.fsdecode(entry.name)
                ) from error
        reader.finish()
        for name, entry in reversed(self._times):
            # Last: what is made in a folder changes its times, and a mode without `w` would forbid making it.
            fd = self._folder(name)
            try:
                self._finish(fd, entry)
            finally:
                os.close(fd)

    def _folder(self, path: bytes) -> int:
        """A folder below the top, made where it is missing; no link is followed."""
        fd = os.open(".", _FOLDER, dir_fd=self.top)
        for part in path.split(b"/") if path else ():
            try:
                following = os.open(part, _FOLDER, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=fd)
                following = os.open(part, _FOLDER, dir_fd=fd)
                if self.owner is not None:
                    os.fchown(following, *self.owner)
            finally:
                os.close(fd)
            fd = following
        return fd

    def _entry(self, entry: tar.Entry, source: tar.Input) -> None:
        path = clean(entry.name)
        above, _, name = path.rpartition(b"/")
        if not path:
            return  # the top itself
        parent = self._folder(above)
        try:
            if entry.type == tar.DIRECTORY:
                self._directory(parent, name, path, entry)
            elif entry.type == tar.REGULAR:
                self._file(parent, name, entry, source)
            elif entry.type == tar.SYMLINK:
                self._clear(parent, name)
                os.symlink(entry.linkname, name, dir_fd=parent)
                self._own_link(parent, name, entry)
            elif entry.type == tar.HARDLINK:
                self._hardlink(parent, name, entry)
            elif entry.type == tar.FIFO:
                self._clear(parent, name)
                os.mkfifo(name, entry.mode & 0o777, dir_fd=parent)
                self._own_link(parent, name, entry)
        finally:
            os.close(parent)
        if entry.size and entry.type != tar.REGULAR:
            for _ in source.pieces(entry.size):
                pass

    def _clear(self, parent: int, name: bytes) -> None:
        """Make room for something that is no folder."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            if not self.overwrite:
                raise RootlessError(
                    f"{os.fsdecode(name)}: is a folder in the destination and none in the source",
                    hint="--overwrite replaces it",
                ) from None
            tree.remove(parent, name)

    def _directory(self, parent: int, name: bytes, path: bytes, entry: tar.Entry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                if not self.overwrite:
                    raise RootlessError(
                        f"{os.fsdecode(name)}: is a folder in the source and none in the destination",
                        hint="--overwrite replaces it",
                    ) from None
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
        self._times.append((path, entry))

    def _file(self, parent: int, name: bytes, entry: tar.Entry, source: tar.Input) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            try:
                self._clear(parent, name)
                fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                # Something is mounted there, as on a container's /etc/hosts: write into it.
                fd = os.open(
                    name,
                    os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                    dir_fd=parent,
                )
        try:
            pieces = entry.sparse if entry.sparse is not None else [(0, entry.size)]
            for offset, length in pieces:
                if entry.sparse is not None:
                    os.lseek(fd, offset, os.SEEK_SET)
                for piece in source.pieces(length):
                    while piece:
                        piece = piece[os.write(fd, piece) :]
            if entry.sparse is not None:
                os.ftruncate(fd, entry.real_size)
            self._finish(fd, entry)
        finally:
            os.close(fd)

    def _hardlink(self, parent: int, name: bytes, entry: tar.Entry) -> None:
        target = clean(entry.linkname)
        above, _, base = target.rpartition(b"/")
        folder = self._folder(above)
        try:
            self._clear(parent, name)
            os.link(base, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(folder)

    def _owner_of(self, entry: tar.Entry) -> tuple[int, int] | None:
        if self.owner is not None:
            return self.owner
        return (entry.uid, entry.gid) if self.keep_owner else None

    def _finish(self, fd: int, entry: tar.Entry) -> None:
        owner = self._owner_of(entry)
        mode = entry.mode
        if owner is not None:
            os.fchown(fd, *owner)
            for name, value in (entry.xattrs or {}).items():
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EACCES):
                        raise
        else:
            mode &= 0o1777
        os.fchmod(fd, mode)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _own_link(self, parent: int, name: bytes, entry: tar.Entry) -> None:
        owner = self._owner_of(entry)
        if owner is not None:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
