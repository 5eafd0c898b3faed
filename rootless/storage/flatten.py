"""Layers as one plain folder: a root file system where no overlay can be mounted, or with its owners shifted.

Runs as root of the user namespace that the layers belong to. Files are cloned where the file system can (ioctl_ficlone),
else copied. Device nodes, which a user namespace cannot make, are left out as they were when the layers were unpacked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from rootless.storage import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FICLONE = 0x40049409
_CHUNK = 1 << 30
#: What clones and copies within the kernel fail with between file systems of two kinds, or where one knows nothing of them.
_NOT_BETWEEN = (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Flattener:
    """One copy. `uid` and `gid` say which ids of the namespace the copies belong to."""

    __slots__ = (
        "destination", "uid", "gid", "_links", "_folders", "_can_clone", "_same_kind", "progress",
    )  # fmt: skip

    def __init__(
        self,
        destination: int,
        uid: Callable[[int], int],
        gid: Callable[[int], int],
        progress: Callable[[], None] | None = None,
    ) -> None:
        self.destination = destination  # an open, empty folder
        self.uid = uid
        self.gid = gid
        self.progress = progress
        self._links: dict[tuple[int, int], bytes] = {}
        self._folders: list[tuple[bytes, os.stat_result]] = []
        self._can_clone = True
        self._same_kind = True

    def run(self, lowers: list[int]) -> None:
        """Copy what an overlay of these folders, the topmost first, would show."""
        for node in tree.walk(lowers):
            if self.progress is not None:
                self.progress()
            self._copy(node)
        # A folder's time changes with what is put into it: last, and from the bottom up.
        for path, status in reversed(self._folders):
            os.utime(
                path,
                ns=(status.st_atime_ns, status.st_mtime_ns),
                dir_fd=self.destination,
                follow_symlinks=False,
            )
        top = os.fstat(lowers[0])
        os.fchown(self.destination, self.uid(top.st_uid), self.gid(top.st_gid))
        os.fchmod(self.destination, stat.S_IMODE(top.st_mode))

    def _copy(self, node: tree.Node) -> None:
        status, path, into = node.status, node.path, self.destination
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(path, 0o700, dir_fd=into)
            self._folders.append((path, status))
        elif (
            status.st_nlink > 1
            and (first := self._links.get((status.st_dev, status.st_ino))) is not None
        ):
            os.link(first, path, src_dir_fd=into, dst_dir_fd=into, follow_symlinks=False)
            return
        elif kind == stat.S_IFREG:
            self._copy_file(node)
        elif kind == stat.S_IFLNK:
            os.symlink(node.readlink(), path, dir_fd=into)
        elif kind == stat.S_IFIFO:
            os.mkfifo(path, 0o600, dir_fd=into)
        else:
            return
        if status.st_nlink > 1 and kind != stat.S_IFDIR:
            self._links[(status.st_dev, status.st_ino)] = path
        os.chown(
            path,
            self.uid(status.st_uid),
            self.gid(status.st_gid),
            dir_fd=into,
            follow_symlinks=False,
        )
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            self._copy_xattrs(node)
        if kind != stat.S_IFLNK:
            os.chmod(path, stat.S_IMODE(status.st_mode), dir_fd=into)
        if kind != stat.S_IFDIR:
            os.utime(
                path,
                ns=(status.st_atime_ns, status.st_mtime_ns),
                dir_fd=into,
                follow_symlinks=False,
            )

    def _copy_file(self, node: tree.Node) -> None:
        source = node.open()
        try:
            target = os.open(
                node.path,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
                dir_fd=self.destination,
            )
            try:
                if not self._clone(source, target):
                    self._copy_data(source, target, node.status.st_size)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _clone(self, source: int, target: int) -> bool:
        if not self._can_clone:
            return False
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in (*_NOT_BETWEEN, errno.ENOTTY, errno.EPERM):
                raise
            self._can_clone = False
            return False
        return True

    def _copy_data(self, source: int, target: int, size: int) -> None:
        """Copy what the file holds, and no holes."""
        done = 0
        while done < size:
            try:
                begin = os.lseek(source, done, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # a hole up to its end
            done = os.lseek(source, begin, os.SEEK_HOLE)
            while begin < done:
                sent = self._copy_range(source, target, begin, min(done - begin, _CHUNK))
                if not sent:
                    return
                begin += sent
        else:
            return
        os.ftruncate(target, size)

    def _copy_range(self, source: int, target: int, offset: int, count: int) -> int:
        if self._same_kind:
            try:
                return os.copy_file_range(source, target, count, offset, offset)
            except OSError as error:
                if error.errno not in _NOT_BETWEEN:
                    raise
                self._same_kind = False
        os.lseek(target, offset, os.SEEK_SET)
        return os.sendfile(target, source, offset, count)

    def _copy_xattrs(self, node: tree.Node) -> None:
        source = node.open()
        try:
            names = [
                name
                for name in os.listxattr(source)
                if not name.startswith(("user.overlay.", "trusted."))
            ]
            if not names:
                return
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(node.path, flags, dir_fd=self.destination)
            try:
                for name in names:
                    try:
                        os.setxattr(target, name, os.getxattr(source, name))
                    except OSError as error:
                        if error.errno not in (errno.ENOTSUP, errno.EPERM):
                            raise
            finally:
                os.close(target)
        finally:
            os.close(source)
