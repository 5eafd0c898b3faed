"""What a container's root file system is made of, and its mount.

The mount is made by init in the container's own mount namespace, so that nothing is mounted outside of it. Folders are
handed over as descriptors, which init opens nothing for: a root whose store its mapped ids may not traverse works too.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import SetupError
from rootless.linux import libc
from rootless.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Root(Protocol):
        """A root file system that init can mount."""

        def open(self) -> None:
            """Open what the mount needs, still with the caller's rights on the host."""

        def mount(self) -> int:
            """Make a detached mount; called in the new mount namespace."""


class DirectoryRoot:
    """A folder used as it is (`--rootfs DIR`, an OCI bundle)."""

    __slots__ = ("path", "_fd")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def open(self) -> None:
        self._fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def mount(self) -> int:
        return m.open_tree(self._fd, "", m.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH | libc.AT_RECURSIVE)


class OverlayRoot:
    """Layers below a writable folder, by the kernel's overlay with `userxattr` (Linux 5.11).

    `volatile` leaves out syncing the upper folder's file system at unmount: for containers removed at their end.
    """

    __slots__ = ("lowers", "upper", "work", "volatile", "_lower_fds", "_upper_fd", "_work_fd", "_folder_fd")

    def __init__(self, lowers: list[str], upper: str, work: str, *, volatile: bool = False) -> None:
        self.lowers = lowers  # the topmost first
        self.upper = upper
        self.work = work
        self.volatile = volatile
        self._lower_fds: list[int] = []
        self._upper_fd = self._work_fd = self._folder_fd = -1

    def open(self) -> None:
        how = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._lower_fds = [os.open(path, how) for path in self.lowers]
        self._upper_fd = os.open(self.upper, how)
        self._work_fd = os.open(self.work, how)
        self._folder_fd = os.open(os.path.dirname(self.upper), how)

    def mount(self) -> int:
        lowers = [f"/proc/self/fd/{fd}" for fd in self._lower_fds]
        tail: list[tuple[str, str | None]] = [
            ("upperdir", f"/proc/self/fd/{self._upper_fd}"),
            ("workdir", f"/proc/self/fd/{self._work_fd}"),
            ("userxattr", None),
        ]
        if self.volatile:
            tail.append(("volatile", None))
        try:
            return m.new_filesystem("overlay", [("source", "overlay"), *(("lowerdir+", one) for one in lowers), *tail])
        except OSError as error:
            # EINVAL: before Linux 6.7 there is no `lowerdir+`, and a `lowerdir` string holds 255 bytes only.
            if error.errno != errno.EINVAL:
                raise self._refused(error) from error
        return self._mount_by_string(lowers, tail)

    def _mount_by_string(self, lowers: list[str], tail: list[tuple[str, str | None]]) -> int:
        options = ",".join(
            ["lowerdir=" + ":".join(lowers), *(key if value is None else f"{key}={value}" for key, value in tail)]
        )
        os.fchdir(self._folder_fd)
        name = os.path.basename(self.upper)
        try:
            m.mount("overlay", name, "overlay", 0, options)
        except OSError as error:
            raise self._refused(error) from error
        return m.open_tree(libc.AT_FDCWD, name, m.OPEN_TREE_CLONE)

    def _refused(self, error: OSError) -> SetupError:
        return SetupError(
            f"overlay of {len(self.lowers)} layers below {self.upper}: {error.strerror}",
            stage="root file system",
            errno=error.errno or 0,
            hint="`rootless info` says which root file systems work here; --storage-opt mount_program=fuse-overlayfs",
        )
