"""Disk quota of a user: quotactl_fd(2), which asks for no device node; Linux 5.14."""

from __future__ import annotations

import os
from _struct import unpack_from

from rootless.linux import libc

SYS_quotactl_fd = 443
_USRQUOTA, _GRPQUOTA = 0, 1
_Q_GETQUOTA = 0x800007


# struct if_dqblk of <linux/quota.h>: six numbers, two times, and which of them are valid
_DQBLK_SIZE = 72


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

    def __init__(self, block: bytes) -> None:
        # Limits are in KiB, the space used is in bytes.
        block_hard, block_soft, space, inode_hard, inode_soft, inodes = unpack_from("=6Q", block)
        self.used_bytes: int = space
        self.limit_bytes: int = (block_hard or block_soft) * 1024
        self.used_inodes: int = inodes
        self.limit_inodes: int = inode_hard or inode_soft


def usage(path: str, owner: int, *, group: bool = False) -> Usage | None:
    """The quota of a user (or group) on the file system of `path`; None where it keeps none, or the kernel cannot say."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    block = libc.buffer(_DQBLK_SIZE)
    command = _Q_GETQUOTA << 8 | (_GRPQUOTA if group else _USRQUOTA)
    try:
        if _quotactl_fd(SYS_quotactl_fd, fd, command, owner, block) < 0:
            return None  # ESRCH: no quota; ENOSYS: an older kernel or file system; EPERM: not for us to know
        return Usage(block.raw)
    finally:
        os.close(fd)
