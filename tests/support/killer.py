"""The command, killed by SIGKILL at the Nth thing that one of its processes changes: `killer.py ROLE[:SIGNAL] N WORD…`.

ROLE is `command` (the process that was called) or `monitor` (the one that it forks). What counts is what an audit hook
sees of a change: a file made, renamed or removed, a folder, a link, a fork, a program started, a signal sent. Nothing in
the engine knows of this. Where the Nth never comes the command just runs.
"""

from __future__ import annotations

import os
import sys

ROLES = ("command", "monitor", "init")
CHANGES = {
    "os.chmod", "os.chown", "os.fork", "os.kill", "os.link", "os.mkdir", "os.posix_spawn", "os.remove", "os.rename",
    "os.rmdir", "os.symlink", "os.truncate", "os.utime", "socket.bind", "fcntl.flock", "os.exec",
}  # fmt: skip


def install(role: str, wanted: int) -> None:
    role, _, number = role.partition(":")
    depth = ROLES.index(role)
    state = {"pid": os.getpid(), "depth": 0, "count": 0}

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            flags = args[2] if len(args) > 2 else 0
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in CHANGES:
            return
        pid = os.getpid()
        if pid != state["pid"]:
            state.update(pid=pid, depth=state["depth"] + 1, count=0)
        if state["depth"] != depth:
            return
        state["count"] += 1
        if state["count"] == wanted:
            os.kill(pid, int(number or 9))

    sys.addaudithook(hook)


if __name__ == "__main__":
    install(sys.argv[1], int(sys.argv[2]))
    from rootless.__main__ import main

    sys.exit(main(sys.argv[3:]))
