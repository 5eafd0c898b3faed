"""What a namespace's file knows of it: ioctl_ns(2)."""

from __future__ import annotations

import fcntl
import struct

_NS_GET_USERNS = 0xB701
_NS_GET_NSTYPE = 0xB703
_NS_GET_OWNER_UID = 0xB704


def kind(fd: int) -> int:
    """The CLONE_ flag of its kind; OSError (ENOTTY) where it is no namespace."""
    return fcntl.ioctl(fd, _NS_GET_NSTYPE)


def owner(fd: int) -> int:
    """A descriptor of the user namespace that owns it; PermissionError where that is not below the caller's."""
    return fcntl.ioctl(fd, _NS_GET_USERNS)


def owner_uid(fd: int) -> int:
    """The uid, as the caller sees it, of whoever has made a user namespace."""
    return int(struct.unpack("=I", fcntl.ioctl(fd, _NS_GET_OWNER_UID, bytes(4)))[0])
