"""prctl(2), capabilities(7) and what else a process says of itself to the kernel."""

from __future__ import annotations

import ctypes

from rootless.linux import libc

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
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
    result: int = _prctl(option, a, b, c, d)
    if result < 0:
        libc.fail()
    return result


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def capget() -> tuple[int, int, int]:
    """This process's (effective, permitted, inheritable) sets as bit masks."""
    header = _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    if _capget(ctypes.byref(header), data) < 0:
        libc.fail()
    low, high = data[0], data[1]
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    header = _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    for index in (0, 1):
        shift = 32 * index
        data[index].effective = effective >> shift & 0xFFFFFFFF
        data[index].permitted = permitted >> shift & 0xFFFFFFFF
        data[index].inheritable = inheritable >> shift & 0xFFFFFFFF
    if _capset(ctypes.byref(header), data) < 0:
        libc.fail()


def keep_capabilities() -> None:
    """Have execve(2) leave this process its capabilities though it is not its namespace's root (the ambient set)."""
    _, permitted, _ = capget()
    capset(permitted, permitted, permitted)
    for number in range(permitted.bit_length()):
        if permitted >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
