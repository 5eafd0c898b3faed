"""Processes and namespaces: unshare(2), setns(2), clone3(2), pidfds."""

from __future__ import annotations

import os
import sys

from rootless.linux import libc

CLONE_NEWTIME = 0x00000080
CLONE_FILES = 0x00000400
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

_unshare = libc.function("unshare", libc.c_int, libc.c_int)
_setns = libc.function("setns", libc.c_int, libc.c_int, libc.c_int)
_clone3 = libc.function("syscall", libc.c_long, libc.c_long, libc.c_void_p, libc.c_size_t)
_pidfd_send_signal = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_int, libc.c_void_p, libc.c_uint
)
_sethostname = libc.function("sethostname", libc.c_int, libc.c_char_p, libc.c_size_t)
_setdomainname = libc.function("setdomainname", libc.c_int, libc.c_char_p, libc.c_size_t)
_personality = libc.function("personality", libc.c_int, libc.c_ulong)
_sched_setattr = libc.function(
    "syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_void_p, libc.c_uint
)
_ioprio_set = libc.function("syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_int, libc.c_int)
_keyctl = libc.function("syscall", libc.c_long, libc.c_long, libc.c_int, libc.c_char_p)

pidfd_open = os.pidfd_open


def unshare(flags: int) -> None:
    """unshare(2)"""
    if _unshare(flags) < 0:
        libc.fail()


def setns(fd: int, flags: int = 0) -> None:
    """setns(2)"""
    if _setns(fd, flags) < 0:
        libc.fail()


def clone(flags: int, exit_signal: int = 17, cgroup_fd: int = -1) -> int:
    """Fork with clone3(2) into the namespaces of `flags`; 0 in the child, its pid in the parent.

    Only for a single-threaded process: the interpreter's own fork handlers are not run.
    """
    if flags & CLONE_PARENT:
        exit_signal = 0
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    arguments = libc.words(flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, max(cgroup_fd, 0))
    pid: int = _clone3(libc.SYS_clone3, arguments, len(arguments))
    if pid < 0:
        libc.fail()
    return pid


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2)"""
    if _pidfd_send_signal(libc.SYS_pidfd_send_signal, pidfd, number, None, 0) < 0:
        libc.fail()


def sethostname(name: str) -> None:
    """sethostname(2)"""
    data = name.encode()
    if _sethostname(data, len(data)) < 0:
        libc.fail(name)


def setdomainname(name: str) -> None:
    """setdomainname(2)"""
    data = name.encode()
    if _setdomainname(data, len(data)) < 0:
        libc.fail(name)


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2) for this process; times in nanoseconds."""
    # struct sched_attr; its first field is its size
    attr = b"".join(
        (
            *(number.to_bytes(4, sys.byteorder) for number in (48, policy)),
            libc.words(flags),
            nice.to_bytes(4, sys.byteorder, signed=True),
            priority.to_bytes(4, sys.byteorder),
            libc.words(runtime, deadline, period),
        )
    )
    number = libc.by_machine(x86_64=314, i686=351, armv7l=380, ppc64le=355, s390x=345, other=274)
    if _sched_setattr(number, 0, attr, 0) < 0:
        libc.fail()


def ioprio_set(level: int) -> None:
    """ioprio_set(2) for this process: the class above bit 13, the priority in it below."""
    number = libc.by_machine(x86_64=251, i686=289, armv7l=314, ppc64le=273, s390x=282, other=30)
    if _ioprio_set(number, 1, 0, level) < 0:
        libc.fail()


def join_session_keyring(name: str) -> None:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: a session keyring of this process's own."""
    number = libc.by_machine(x86_64=250, i686=288, armv7l=311, ppc64le=271, s390x=280, other=219)
    if _keyctl(number, 1, name.encode()) < 0:
        libc.fail()


def personality(persona: int) -> None:
    """personality(2)"""
    if _personality(persona) < 0:
        libc.fail()
