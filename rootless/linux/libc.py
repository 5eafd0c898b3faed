"""The C library, loaded once, and the one way in which a failed call becomes an OSError."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

c_char_p = ctypes.c_char_p
c_int = ctypes.c_int
c_long = ctypes.c_long
c_size_t = ctypes.c_size_t
c_uint = ctypes.c_uint
c_ulong = ctypes.c_ulong
c_void_p = ctypes.c_void_p

# PyDLL keeps the interpreter lock: none of these calls block for long, and a raw clone must not be taken apart from it.
_libc = ctypes.PyDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of the C library with its prototype; each call makes a pointer of its own, so that `syscall` can
    have several."""
    pointer = _libc[name]
    pointer.restype = result
    pointer.argtypes = arguments
    return pointer


def fail(path: str | bytes | None = None, other: str | bytes | None = None) -> NoReturn:
    """Raise OSError for the errno that the last call left."""
    number = ctypes.get_errno()
    if path is None:
        raise OSError(number, os.strerror(number))
    if other is None:
        raise OSError(number, os.strerror(number), path)
    raise OSError(number, os.strerror(number), path, None, other)


def by_machine(*, other: int, **numbers: int) -> int:
    """A system call's number here; `other` is that of the machines that came after 2010 (aarch64, riscv64)."""
    return numbers.get(os.uname().machine, other)


# System calls of 424 and above have one number on every architecture.
SYS_pidfd_send_signal = 424
SYS_open_tree = 428
SYS_move_mount = 429
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432
SYS_pidfd_open = 434
SYS_clone3 = 435
SYS_close_range = 436
SYS_openat2 = 437
SYS_mount_setattr = 442
