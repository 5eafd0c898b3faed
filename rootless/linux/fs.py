"""Files through descriptors: openat2(2), statfs(2), close_range(2), renameat2(2)."""

from __future__ import annotations

import ctypes
import errno
import os

from rootless.linux import libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

O_PATH = os.O_PATH

OVERLAYFS_SUPER_MAGIC = 0x794C7630
PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1
CGROUP2_SUPER_MAGIC = 0x63677270
TMPFS_MAGIC = 0x01021994


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _Statfs(ctypes.Structure):
    # 120 bytes on 64-bit Linux; f_type leads, the rest is not read here (os.statvfs gives it).
    _fields_ = [("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 248)]


_openat2 = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_char_p, libc.c_void_p, libc.c_size_t
)
_close_range = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_uint, libc.c_uint, libc.c_uint
)
_statfs = libc.function("statfs", libc.c_int, libc.c_char_p, libc.c_void_p)
_fstatfs = libc.function("fstatfs", libc.c_int, libc.c_int, libc.c_void_p)
_renameat2 = libc.function(
    "renameat2", libc.c_int, libc.c_int, libc.c_char_p, libc.c_int, libc.c_char_p, libc.c_uint
)


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open with rules for the walk (openat2(2)); O_CLOEXEC is always set."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    while True:
        fd: int = _openat2(libc.SYS_openat2, dirfd, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        # EAGAIN: a rename or mount raced with the walk, and the kernel asks for another try.
        if number not in (errno.EINTR, errno.EAGAIN):
            raise OSError(number, os.strerror(number), path)


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process with its root at `root` would; /proc's magic links are refused."""
    return openat2(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    if _close_range(libc.SYS_close_range, first, last, flags) < 0:
        libc.fail()


def fs_type(path: str) -> int:
    """The file system's magic number (statfs(2))."""
    buffer = _Statfs()
    if _statfs(os.fsencode(path), ctypes.byref(buffer)) < 0:
        libc.fail(path)
    return int(buffer.f_type) & 0xFFFFFFFF


def fd_fs_type(fd: int) -> int:
    buffer = _Statfs()
    if _fstatfs(fd, ctypes.byref(buffer)) < 0:
        libc.fail()
    return int(buffer.f_type) & 0xFFFFFFFF


def renameat2(old_dirfd: int, old: str, new_dirfd: int, new: str, flags: int = 0) -> None:
    if _renameat2(old_dirfd, os.fsencode(old), new_dirfd, os.fsencode(new), flags) < 0:
        libc.fail(old, new)
