"""prctl(2), capabilities(7) and what else a process says of itself to the kernel."""

from __future__ import annotations

import sys

from rootless.linux import libc

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_prctl = libc.function(
    "prctl", libc.c_int, libc.c_int, libc.c_ulong, libc.c_ulong, libc.c_ulong, libc.c_ulong
)
_capget = libc.function("capget", libc.c_int, libc.c_void_p, libc.c_void_p)
_capset = libc.function("capset", libc.c_int, libc.c_void_p, libc.c_void_p)


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2)"""
    result: int = _prctl(option, a, b, c, d)
    if result < 0:
        libc.fail()
    return result


# struct __user_cap_header_struct: the version, and the process, which is this one.
_CAP_HEADER = _LINUX_CAPABILITY_VERSION_3.to_bytes(4, sys.byteorder) + bytes(4)


def capget() -> tuple[int, int, int]:
    """This process's (effective, permitted, inheritable) sets as bit masks."""
    buffer = libc.buffer(24)
    if _capget(_CAP_HEADER, buffer) < 0:
        libc.fail()
    data: bytes = buffer.raw
    # The lower halves of the three, then the upper ones.
    numbers = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, 24, 4)]
    effective, permitted, inheritable = (
        low | high << 32 for low, high in zip(numbers[:3], numbers[3:], strict=True)
    )
    return effective, permitted, inheritable


def capset(effective: int, permitted: int, inheritable: int) -> None:
    data = b"".join(
        [
            (mask >> shift & 0xFFFFFFFF).to_bytes(4, sys.byteorder)
            for shift in (0, 32)
            for mask in (effective, permitted, inheritable)
        ]
    )
    if _capset(_CAP_HEADER, data) < 0:
        libc.fail()


def keep_capabilities() -> None:
    """Have execve(2) leave this process its capabilities though it is not its namespace's root (the ambient set)."""
    _, permitted, _ = capget()
    capset(permitted, permitted, permitted)
    for number in range(permitted.bit_length()):
        if permitted >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
