"""inotify(7): being told when a file changes."""

from __future__ import annotations

from rootless.linux.libc import c_char_p, c_int, fail, function
from rootless.linux.libc import c_uint as c_uint32

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_MOVE_SELF = 0x800
IN_CLOEXEC = 0o2000000
IN_NONBLOCK = 0o4000

_init1 = function("inotify_init1", c_int, c_int)
_add_watch = function("inotify_add_watch", c_int, c_int, c_char_p, c_uint32)


def inotify_init1(flags: int = IN_CLOEXEC | IN_NONBLOCK) -> int:
    """inotify_init1(2)"""
    fd: int = _init1(flags)
    if fd < 0:
        fail("inotify")  # the reasons mean other limits here than elsewhere
    return fd


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """inotify_add_watch(2)"""
    number: int = _add_watch(fd, path.encode("utf-8", "surrogateescape"), mask)
    if number < 0:
        fail(f"inotify watch of {path}")
    return number
