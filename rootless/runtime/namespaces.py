"""The kinds of namespaces: runtime-spec's word, the name in /proc/PID/ns and the flag of clone(2) and setns(2)."""

from __future__ import annotations

import os

from rootless.linux.sched import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)

# In the order in which they are joined: user first, since it gives the right to the others.
_KINDS = (
    ("user", "user", CLONE_NEWUSER),
    ("ipc", "ipc", CLONE_NEWIPC),
    ("uts", "uts", CLONE_NEWUTS),
    ("network", "net", CLONE_NEWNET),
    ("cgroup", "cgroup", CLONE_NEWCGROUP),
    ("time", "time", CLONE_NEWTIME),
    ("pid", "pid", CLONE_NEWPID),
    ("mount", "mnt", CLONE_NEWNS),
)
NAMESPACES = {kind: flag for kind, _, flag in _KINDS}


def foreign_namespaces(pid: int) -> int:
    """The CLONE_ flags of the namespaces that `pid` is in and we are not: joining one's own user namespace fails."""
    flags = 0
    for _, name, flag in _KINDS:
        try:
            if os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
                flags |= flag
        except FileNotFoundError:
            continue  # a kernel without time namespaces
    return flags
