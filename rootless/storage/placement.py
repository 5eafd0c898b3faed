"""Where ext4 puts a layer's inodes: away from those of layers that were removed a moment ago.

ext4 gives nobody an inode that was freed in the last minutes, and looks at each such one of a group anew for every file
made there (recently_deleted() in fs/ext4/ialloc.c). A folder made beside the last one shares its group: 40,000 files
took 1.2 s in a fresh group and 13 s where a layer of as many had just been removed, nearly all of it in the kernel.
"""

from __future__ import annotations

import fcntl
import os
import sys

# <linux/fs.h>: in spite of the "long" in their numbers the kernel reads and writes an int. Some processors number
# them otherwise; there the request is unknown, and nothing is spread.
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
# chattr(1), `T`: what is made in this folder is unrelated, and is to be spread over the disk.
TOPDIR = 0x00020000


def flags(fd: int) -> int:
    """A file's inode flags (ioctl_iflags(2)). Raises OSError where the file system has none."""
    return int.from_bytes(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)), sys.byteorder)


def make_apart(folder: str, name: str, mode: int) -> None:
    """Make `name` in a folder of its own so that its files come to lie anywhere on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wanted = (flags(fd) | TOPDIR).to_bytes(4, sys.byteorder)
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, wanted)
    except OSError:
        pass  # another file system, which has no need of it
    finally:
        os.close(fd)
    # The name decides where the search begins, and the same one would always lead to the same place.
    anywhere = f"{folder}/{os.urandom(8).hex()}"
    os.mkdir(anywhere, mode)
    os.rename(anywhere, f"{folder}/{name}")
