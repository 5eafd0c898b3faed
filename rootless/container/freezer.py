"""Pausing: the cgroup freezer, or SIGSTOP to every process of the container's pid namespace where there is none."""

from __future__ import annotations

import os
import time

from rootless.container import events
from rootless.errors import RootlessError
from rootless.linux import signal
from rootless.linux.process import read_file, stat_fields
from rootless.runtime.cgroup import Cgroup
from rootless.state import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine
    from rootless.container.status import Status

_DEADLINE_S = 10.0


def pause(engine: Engine, status: Status) -> None:
    """Hold every process; returns when none of them runs any more."""
    assert status.live is not None
    cgroup = status.live.get("cgroup")
    if cgroup:
        Cgroup(cgroup).freeze()
    else:
        _stop_all(status)
    engine.containers.write_live(status.id, {**status.live, "paused": True})
    events.container_event(engine, status.record, "pause")


def resume(engine: Engine, status: Status) -> None:
    assert status.live is not None
    cgroup = status.live.get("cgroup")
    if cgroup:
        Cgroup(cgroup).thaw()
    else:
        for pid in members(status):
            _signal(pid, signal.SIGCONT)
    engine.containers.write_live(
        status.id, {key: value for key, value in status.live.items() if key != "paused"}
    )
    events.container_event(engine, status.record, "unpause")


def members(status: Status) -> list[int]:
    """The host's pids of every process in the container's pid namespace, and no other's."""
    assert status.live is not None
    init = process_of(status.live, "init")
    assert init is not None
    wanted = os.stat(f"/proc/{init.pid}/ns/pid").st_ino
    if wanted == os.stat("/proc/self/ns/pid").st_ino:
        raise RootlessError(
            f"container {status.name} shares the host's pid namespace: its processes cannot be told apart without a cgroup",
            hint="a host with cgroup v2 delegated to users can pause it",
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


def _stop_all(status: Status) -> None:
    """Stop them until a whole look around finds none that runs: one may fork while the others are being stopped."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        running = [pid for pid in members(status) if _is_running(pid)]
        if not running:
            return
        for pid in running:
            _signal(pid, signal.SIGSTOP)
        if time.monotonic() > deadline:
            raise RootlessError(f"container {status.name}: its processes do not stop")
        time.sleep(0.001)


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
