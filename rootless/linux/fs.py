"""Files through descriptors: openat2(2), statfs(2), close_range(2)."""

from __future__ import annotations

import errno
import os
import sys

from rootless.linux import libc

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

O_PATH = os.O_PATH

PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1
TMPFS_MAGIC = 0x01021994
SYSFS_MAGIC = 0x62656572


# struct statfs has 120 bytes on 64-bit Linux; f_type leads, the rest is not read here (os.statvfs gives it).
_STATFS_SIZE = 256


_openat2 = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_char_p, libc.c_void_p, libc.c_size_t
)
_close_range = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_uint, libc.c_uint, libc.c_uint
)
_statfs = libc.function("statfs", libc.c_int, libc.c_char_p, libc.c_void_p)
_fstatfs = libc.function("fstatfs", libc.c_int, libc.c_int, libc.c_void_p)


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open with rules for the walk (openat2(2)); O_CLOEXEC is always set."""
    how = libc.words(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    while True:
        fd: int = _openat2(libc.SYS_openat2, dirfd, encoded, how, len(how))
        if fd >= 0:
            return fd
        number = libc.get_errno()
        # EAGAIN: a rename or mount raced with the walk, and the kernel asks for another try.
        if number not in (errno.EINTR, errno.EAGAIN):
            raise OSError(number, os.strerror(number), path)


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process with its root at `root` would; /proc's magic links are refused."""
    return openat2(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """close_range(2): close, or mark to be closed by execve, all descriptors from `first` to `last`."""
    if _close_range(libc.SYS_close_range, first, last, flags) < 0:
        libc.fail()


def fs_type(path: str) -> int:
    """The file system's magic number (statfs(2))."""
    buffer = libc.buffer(_STATFS_SIZE)
    if _statfs(os.fsencode(path), buffer) < 0:
        libc.fail(path)
    return _f_type(buffer.raw)


def fd_fs_type(fd: int) -> int:
    buffer = libc.buffer(_STATFS_SIZE)
    if _fstatfs(fd, buffer) < 0:
        libc.fail()
    return _f_type(buffer.raw)


def _f_type(data: bytes) -> int:
    long = data[: libc.SIZEOF_LONG]  # of 32 bits where that has 64, too
    return int.from_bytes(long, sys.byteorder) & 0xFFFFFFFF
