"""Holding a container without a cgroup freezer: SIGSTOP to every process of its pid namespace."""

from __future__ import annotations

import os
import time

from rootless.errors import RootlessError
from rootless.linux import signal
from rootless.linux.process import read_file, stat_fields

_DEADLINE_S = 10.0


def in_pid_namespace(init: int, what: str) -> list[int]:
    """The host's pids of every process in init's pid namespace, and no other's; `what` names the container in errors."""
    wanted = os.stat(f"/proc/{init}/ns/pid").st_ino
    if wanted == os.stat("/proc/self/ns/pid").st_ino:
        raise RootlessError(
            f"{what} shares the host's pid namespace: its processes cannot be told apart without a cgroup",
            hint="a host with cgroup v2 delegated to users can",
        )
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.stat(f"/proc/{name}/ns/pid").st_ino == wanted:
                found.append(int(name))
        except OSError:
            continue
    return found


def stop_all(init: int, what: str) -> None:
    """Stop them until a whole look around finds none that runs: one may fork while the others are being stopped."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        running = [pid for pid in in_pid_namespace(init, what) if _is_running(pid)]
        if not running:
            return
        for pid in running:
            _signal(pid, signal.SIGSTOP)
        if time.monotonic() > deadline:
            raise RootlessError(f"{what}: its processes do not stop")
        time.sleep(0.001)


def continue_all(init: int, what: str) -> None:
    """SIGCONT to every process of init's pid namespace."""
    for pid in in_pid_namespace(init, what):
        _signal(pid, signal.SIGCONT)


def _is_running(pid: int) -> bool:
    try:
        state = stat_fields(pid)[0]
        if state == b"D":
            # A parent in vfork(2) waits for its child, which is stopped: the signal is pending, and meets it before it
            # runs any more of its program.
            return not _has_pending_stop(pid)
        return state not in (b"T", b"t", b"Z", b"X")
    except (OSError, ValueError):
        return False


def _has_pending_stop(pid: int) -> bool:
    for line in read_file(f"/proc/{pid}/status").split(b"\n"):
        if (
            line.startswith((b"SigPnd:", b"ShdPnd:"))
            and int(line.split()[1], 16) >> (signal.SIGSTOP - 1) & 1
        ):
            return True
    return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
