"""What a container's root file system is made of, and its mount.

The mount is made by init in the container's own mount namespace, so that nothing is mounted outside of it. Folders are
handed over as descriptors, which init opens nothing for: a root whose store its mapped ids may not traverse works too.
"""

from __future__ import annotations

import errno
import os
import select

from rootless.errors import SetupError
from rootless.linux import fs, libc
from rootless.linux import mount as m
from rootless.linux.prctl import PR_SET_PDEATHSIG, keep_capabilities, prctl
from rootless.linux.sched import CLONE_NEWNS, CLONE_NEWUSER, setns, unshare
from rootless.linux.signal import SIGKILL
from rootless.runtime.sync import FAILED, MOUNTED, Channel, encode_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Root(Protocol):
        """A root file system that init can mount."""

        def open(self) -> None:
            """Open what the mount needs, still with the caller's rights on the host."""

        def mount(self) -> int:
            """Make a detached mount; called in the new mount namespace."""

        def start(self, init: int, userns: int = -1) -> None:
            """In the parent, once init's namespaces are there and mapped: begin what works outside of them."""

        def close(self) -> None:
            """In the parent, after init's end."""


_FUSE_SUPER_MAGIC = 0x65735546  # statfs(2)


class PlainRoot:
    """A root that needs no work outside of the container."""

    __slots__ = ()

    def start(self, init: int, userns: int = -1) -> None:
        return

    def close(self) -> None:
        return


class DirectoryRoot(PlainRoot):
    """A folder used as it is (`--rootfs DIR`, an OCI bundle)."""

    __slots__ = ("path", "_fd")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def open(self) -> None:
        self._fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def mount(self) -> int:
        return m.open_tree(self._fd, "", m.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH | libc.AT_RECURSIVE)


class OverlayRoot(PlainRoot):
    """Layers below a writable folder, by the kernel's overlay with `userxattr` (Linux 5.11).

    `volatile` leaves out syncing the upper folder's file system at unmount: for containers removed at their end.
    """

    __slots__ = (
        "lowers",
        "upper",
        "work",
        "volatile",
        "_lower_fds",
        "_upper_fd",
        "_work_fd",
        "_folder_fd",
    )

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
            return m.new_filesystem(
                "overlay", [("source", "overlay"), *(("lowerdir+", one) for one in lowers), *tail]
            )
        except OSError as error:
            # EINVAL: before Linux 6.7 there is no `lowerdir+`, and a `lowerdir` string holds 255 bytes only.
            if error.errno != errno.EINVAL:
                raise self._refused(error) from error
        return self._mount_by_string(lowers, tail)

    def _mount_by_string(self, lowers: list[str], tail: list[tuple[str, str | None]]) -> int:
        options = ",".join(
            [
                "lowerdir=" + ":".join(lowers),
                *(key if value is None else f"{key}={value}" for key, value in tail),
            ]
        )
        os.fchdir(self._folder_fd)
        name = os.path.basename(self.upper)
        try:
            m.mount("overlay", name, "overlay", 0, options)
        except OSError as error:
            raise self._refused(error) from error
        return m.open_tree(libc.AT_FDCWD, name, m.OPEN_TREE_CLONE)

    def _refused(self, error: OSError) -> SetupError:
        # For a limit that was met the remedy is another, whatever is mounted (causes.py).
        is_limit = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
        return SetupError(
            f"overlay of {len(self.lowers)} layers below {self.upper}: {(error.strerror or str(error)).lower()}",
            stage="root file system",
            errno=error.errno or 0,
            hint=""
            if is_limit
            else "`rootless info` says which root file systems work here; --storage-opt mount_program=fuse-overlayfs",
        )


class FuseOverlayRoot:
    """Layers below a writable folder by fuse-overlayfs: where the kernel's overlay is refused, or owners are shifted.

    The program runs as root of the container's user namespace, which its mount has to belong to, but outside of its
    pid and mount namespaces: a pivot_root would take the program's own paths away. The mount comes to init as a
    descriptor. The program is a child of the monitor and dies with it. `uids` and `gids` are (id
    on the disk as the namespace sees it, id to show, size) where they differ.
    """

    __slots__ = (
        "lowers",
        "upper",
        "work",
        "target",
        "program",
        "uids",
        "gids",
        "pid",
        "_ours",
        "_theirs",
    )

    def __init__(
        self,
        program: str,
        lowers: list[str],
        upper: str,
        work: str,
        target: str,
        uids: list[tuple[int, int, int]] | None = None,
        gids: list[tuple[int, int, int]] | None = None,
    ) -> None:
        self.program = program
        self.lowers = lowers  # the topmost first
        self.upper = upper
        self.work = work
        self.target = target  # an empty folder
        self.uids = uids or []
        self.gids = gids or []
        self.pid = 0
        self._ours, self._theirs = Channel.pair()

    def options(self) -> str:
        for path in (*self.lowers, self.upper, self.work):
            if any(c in path for c in ",:\\"):
                raise SetupError(
                    f"fuse-overlayfs cannot use {path}: a comma, colon or backslash in it",
                    stage="root file system",
                    hint="give --root a plain path",
                )
        words = [
            f"lowerdir={':'.join(self.lowers)}",
            f"upperdir={self.upper}",
            f"workdir={self.work}",
        ]
        for key, ranges in (("uidmapping", self.uids), ("gidmapping", self.gids)):
            if ranges:
                words.append(f"{key}=" + ":".join(f"{a}:{b}:{c}" for a, b, c in ranges))
        return ",".join(words)

    def start(self, init: int, userns: int = -1) -> None:
        """In the parent, once the namespaces of `init` are there and its ids are mapped."""
        options = self.options()
        if userns < 0:
            userns = os.open(f"/proc/{init}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        else:
            userns = os.dup(userns)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                prctl(PR_SET_PDEATHSIG, SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)
                self._ours.close()
                self._serve(userns, options)
            except BaseException as error:
                self._theirs.send(FAILED, encode_failure("root file system", error))
            finally:
                os._exit(1)
        os.close(userns)
        self._theirs.close()

    def _serve(self, userns: int, options: str) -> None:
        os.setsid()
        setns(userns, CLONE_NEWUSER)
        # execve(2) keeps the capabilities of the namespace's root only.
        try:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        except OSError:
            keep_capabilities()  # one id is mapped, and it is not root
        prctl(PR_SET_PDEATHSIG, SIGKILL)
        unshare(CLONE_NEWNS)
        m.mount(None, "/", None, m.MS_SLAVE | m.MS_REC)
        reads, writes = os.pipe2(os.O_CLOEXEC)
        if os.fork() == 0:
            # Not a child of the program, which would not reap it.
            if os.fork() == 0:
                os.close(writes)
                self._hand_over(reads)
            os._exit(0)
        os.wait()
        null = os.open("/dev/null", os.O_RDWR)
        for fd, number in ((null, 0), (null, 1), (writes, 2)):
            os.dup2(fd, number)
        fs.close_range(3)
        os.execve(
            self.program,
            ["fuse-overlayfs", "-f", "-o", options, self.target],
            {"PATH": "/usr/bin:/bin"},
        )

    def _hand_over(self, reads: int) -> None:
        """Wait for the mount and send it to init; the program's end is the end of its standard error."""
        try:
            poll = select.poll()
            poll.register(reads, select.POLLIN)
            said = b""
            while fs.fs_type(self.target) != _FUSE_SUPER_MAGIC:
                for _, event in poll.poll(1):
                    chunk = os.read(reads, 4096) if event & select.POLLIN else b""
                    said += chunk
                    if not chunk:
                        words = "; ".join(said.decode("utf-8", "replace").split("\n")).strip("; ")
                        raise SetupError(
                            f"fuse-overlayfs: {words or 'ended at its start'}",
                            stage="root file system",
                            hint="is /dev/fuse there and open to this user?",
                        )
            self._theirs.send(
                MOUNTED, fd=m.open_tree(libc.AT_FDCWD, self.target, m.OPEN_TREE_CLONE)
            )
        except BaseException as error:
            self._theirs.send(FAILED, encode_failure("root file system", error))
        finally:
            os._exit(0)

    def open(self) -> None:
        self._theirs.close()

    def mount(self) -> int:
        _, fd = self._ours.expect(MOUNTED)
        return fd

    def close(self) -> None:
        """After init's end: the program would hold the mount for ever."""
        if self.pid > 0:
            try:
                os.kill(self.pid, SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self.pid = 0
        self._ours.close()
