"""Pausing: the cgroup freezer, or SIGSTOP to every process of the container's pid namespace where there is none."""

from __future__ import annotations

from rootless.container import events
from rootless.container.status import check_access
from rootless.runtime import freezer
from rootless.runtime.cgroup import Cgroup
from rootless.state import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine
    from rootless.container.status import Status


def pause(engine: Engine, status: Status) -> None:
    """Hold every process; returns when none of them runs any more."""
    assert status.live is not None
    cgroup = status.live.get("cgroup")
    if cgroup:
        Cgroup(cgroup).freeze()
    else:
        freezer.stop_all(*_init(status))
    engine.containers.write_live(status.id, {**status.live, "paused": True})
    events.container_event(engine, status.record, "pause")


def resume(engine: Engine, status: Status) -> None:
    """Let the processes go on, and drop the note that they were held."""
    assert status.live is not None
    cgroup = status.live.get("cgroup")
    if cgroup:
        Cgroup(cgroup).thaw()
    else:
        freezer.continue_all(*_init(status))
    engine.containers.write_live(
        status.id, {key: value for key, value in status.live.items() if key != "paused"}
    )
    events.container_event(engine, status.record, "unpause")


def members(status: Status) -> list[int]:
    """The host's pids of every process in the container's pid namespace, and no other's."""
    return freezer.in_pid_namespace(*_init(status))


def _init(status: Status) -> tuple[int, str]:
    assert status.live is not None
    check_access(status)
    init = process_of(status.live, "init")
    assert init is not None
    return init.pid, f"container {status.name}"
