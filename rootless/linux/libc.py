"""The C library, loaded once, and the one way in which a failed call becomes an OSError.

By `_ctypes`, which `ctypes` itself is made of: that one makes sixty types more than the seven below, none of them of use
here, and was a sixth of the instructions of loading what `rootless-oci run` is made of (28.1 to 23.4 million).
"""

from __future__ import annotations

import _ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


def _simple(name: str, code: str) -> Any:
    """A C type; `code` is its letter in the module `struct`, or z for a string and P for a pointer."""
    make: Any = type(_ctypes._SimpleCData)
    return make(name, (_ctypes._SimpleCData,), {"_type_": code})


c_char = _simple("c_char", "c")
c_char_p = _simple("c_char_p", "z")
c_int = _simple("c_int", "i")
c_long = _simple("c_long", "l")
c_uint = _simple("c_uint", "I")
c_ulong = _simple("c_ulong", "L")
c_void_p = _simple("c_void_p", "P")
c_size_t = c_ulong  # of one size on every Linux

addressof = _ctypes.addressof
get_errno = _ctypes.get_errno
SIZEOF_LONG = _ctypes.sizeof(c_long)


class _Function(_ctypes.CFuncPtr):
    # With PYTHONAPI the interpreter's lock is kept: none of these calls block for long, and a raw clone must not be taken
    # apart from it.
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = c_int


# None is this program with all that it is linked to; typeshed does not know it.
_libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of the C library with its prototype; each call makes a pointer of its own, so that `syscall` can
    have several."""
    pointer = _Function(_ctypes.dlsym(_libc, name))
    pointer.restype = result
    pointer.argtypes = arguments
    return pointer


def buffer(size: int, content: bytes = b"") -> Any:
    """Memory for a call to write to or to point at (`addressof`); its `raw` has the bytes."""
    made = (c_char * size)()
    made.raw = content
    return made


def words(*numbers: int) -> bytes:
    """Numbers of 64 bits in a row, as the newer system calls want their arguments."""
    return b"".join([number.to_bytes(8, sys.byteorder) for number in numbers])


def fail(path: str | bytes | None = None, other: str | bytes | None = None) -> NoReturn:
    """Raise OSError for the errno that the last call left."""
    number = get_errno()
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
SYS_clone3 = 435
SYS_close_range = 436
SYS_openat2 = 437
SYS_mount_setattr = 442
