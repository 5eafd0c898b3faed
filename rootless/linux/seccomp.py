"""seccomp(2) in its filter mode."""

from __future__ import annotations

import os
from _struct import pack

from rootless.linux import libc

SET_MODE_FILTER = 1
FILTER_FLAG_TSYNC = 1 << 0
FILTER_FLAG_LOG = 1 << 1
FILTER_FLAG_SPEC_ALLOW = 1 << 2
FILTER_FLAG_NEW_LISTENER = 1 << 3
FILTER_FLAG_TSYNC_ESRCH = 1 << 4
FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5

# It has a number per architecture; 277 is that of the generic table (arm64, riscv64, …).
_SYS_SECCOMP = {
    "x86_64": 317,
    "i686": 354,
    "i386": 354,
    "armv7l": 383,
    "armv6l": 383,
    "ppc64le": 358,
    "ppc64": 358,
    "s390x": 348,
    "mips64": 5312,
}.get(os.uname().machine, 277)

_seccomp = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_ulong, libc.c_ulong, libc.c_void_p
)


def set_mode_filter(program: bytes, flags: int) -> int:
    """Attach a filter to the calling thread; 0, or the listener's descriptor with FILTER_FLAG_NEW_LISTENER."""
    code = libc.buffer(len(program), program)
    fprog = pack(
        "HP", len(program) // 8, libc.addressof(code)
    )  # struct sock_fprog of linux/filter.h
    result: int = _seccomp(_SYS_SECCOMP, SET_MODE_FILTER, flags, fprog)
    if result < 0:
        libc.fail()
    return result
