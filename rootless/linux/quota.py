"""Disk quota of a user: quotactl_fd(2), which asks for no device node; Linux 5.14."""

from __future__ import annotations

import ctypes
import os

from rootless.linux import libc

SYS_quotactl_fd = 443
_USRQUOTA, _GRPQUOTA = 0, 1
_Q_GETQUOTA = 0x800007


class _Dqblk(ctypes.Structure):
    # struct if_dqblk of <linux/quota.h>; limits in KiB, the space used in bytes
    _fields_ = [
        ("block_hard", ctypes.c_uint64),
        ("block_soft", ctypes.c_uint64),
        ("space", ctypes.c_uint64),
        ("inode_hard", ctypes.c_uint64),
        ("inode_soft", ctypes.c_uint64),
        ("inodes", ctypes.c_uint64),
        ("block_time", ctypes.c_uint64),
        ("inode_time", ctypes.c_uint64),
        ("valid", ctypes.c_uint32),
    ]


_quotactl_fd = libc.function(
    "syscall",
    libc.c_long,
    libc.c_long,
    libc.c_uint,
    libc.c_uint,
    libc.c_uint,
    libc.c_void_p,
)


class Usage:
    """What one owner has used and may use: bytes and inodes; 0 is no limit."""

    __slots__ = ("limit_bytes", "limit_inodes", "used_bytes", "used_inodes")

    def __init__(self, block: _Dqblk) -> None:
        self.used_bytes: int = block.space
        self.limit_bytes: int = (block.block_hard or block.block_soft) * 1024
        self.used_inodes: int = block.inodes
        self.limit_inodes: int = block.inode_hard or block.inode_soft


def usage(path: str, owner: int, *, group: bool = False) -> Usage | None:
    """The quota of a user (or group) on the file system of `path`; None where it keeps none, or the kernel cannot say."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    block = _Dqblk()
    command = _Q_GETQUOTA << 8 | (_GRPQUOTA if group else _USRQUOTA)
    try:
        if _quotactl_fd(SYS_quotactl_fd, fd, command, owner, ctypes.byref(block)) < 0:
            return None  # ESRCH: no quota; ENOSYS: an older kernel or file system; EPERM: not for us to know
        return Usage(block)
    finally:
        os.close(fd)
