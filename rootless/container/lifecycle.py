"""Stopping, killing and removing containers. Making them is in creation.py, starting in supervise.py.

Nobody waits for a monitor with the container's lock held: the monitor of `--rm` takes it at its end.
"""

from __future__ import annotations

import os
import select
import time

from rootless.container import events
from rootless.container.requirements import check_free, dependents
from rootless.container.status import (
    CREATED,
    EXITED,
    INITIALIZED,
    PAUSED,
    RUNNING,
    STOPPING,
    Status,
    settle,
    status_of,
)
from rootless.errors import InvalidState, NotFound
from rootless.files import read_bytes, write_atomic
from rootless.linux.process import is_alive, open_pidfd, start_time
from rootless.linux.sched import pidfd_send_signal
from rootless.state import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine

_SIGKILL = 9


# ends


def wait_monitor(
    engine: Engine, identity: str, live: dict[str, Any] | None, timeout_s: float | None = None
) -> bool:
    """Wait until a run's monitor has ended, with all that it does at the end; False at the time-out."""
    monitor = process_of(live, "monitor") if live else None
    if monitor is None:
        return True
    try:
        fd = open_pidfd(monitor.pid, monitor.started)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else int(timeout_s * 1000)))
    finally:
        os.close(fd)


def send_signal(status: Status, number: int) -> None:
    """Send a signal to a container's init, and to no other process that may have its number by now."""
    assert status.live is not None
    init = process_of(status.live, "init")
    assert init is not None
    fd = open_pidfd(init.pid, init.started)
    try:
        pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def kill(engine: Engine, identity: str, number: int) -> None:
    """Send a signal to a running container."""
    status = status_of(engine, identity)
    if status.word not in (RUNNING, PAUSED):
        raise InvalidState(
            f"can only kill running containers. {identity} is in state {shown(status)}: container state improper"
        )
    if number == _SIGKILL:
        _mark_stopped(engine, identity)
    try:
        send_signal(status, number)
    except ProcessLookupError:
        return
    if number == _SIGKILL and status.word == PAUSED:
        resume(engine, status)
    events.container_event(engine, status.record, "kill", signal=number)


def shown(status: Status) -> str:
    """The word that Podman has for a state in its messages."""
    return {CREATED: "configured", INITIALIZED: "created"}.get(status.word, status.word)


def _mark_stopped(engine: Engine, identity: str) -> None:
    """Tell the monitor that the end which comes is wanted, so that no restart policy answers it."""
    try:
        fd = os.open(
            f"{engine.containers.run_folder(identity)}/stop",
            os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC,
            0o600,
        )
    except FileNotFoundError:
        return
    os.close(fd)


class Restarting:
    """While a container is stopped only to be started again: `--rm` does not answer its end, and who follows its log
    waits for more. True as long as the process that began it lives and has not come to its end."""

    __slots__ = ("_path",)

    def __init__(self, engine: Engine, identity: str) -> None:
        self._path = f"{engine.containers.run_folder(identity)}/restarting"

    def __enter__(self) -> None:
        me = os.getpid()
        try:
            write_atomic(self._path, f"{me} {start_time(me)}".encode())
        except FileNotFoundError:
            pass  # it does not run

    def __exit__(self, *_: object) -> None:
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def __bool__(self) -> bool:
        try:
            pid, started = map(int, read_bytes(self._path).split())
            return is_alive(pid, started)
        except (OSError, ValueError):
            return False


def stop(engine: Engine, identity: str, timeout_s: float | None = None) -> bool:
    """Ask a container to end, and make it end after the time-out; False where it did not run.

    Returns when its monitor has recorded the end (and removed it, with `--rm`).
    """
    status = status_of(engine, identity)
    if status.has_ended:
        if status.stale:
            with engine.containers.lock(identity):
                settle(engine, identity)
        return False
    _mark_stopped(engine, identity)
    events.container_event(engine, status.record, "stop")  # before `died`, which the monitor tells
    if timeout_s is None:
        timeout_s = float(status.record["stop_timeout"])
    deadline = time.monotonic() + timeout_s if timeout_s >= 0 else None
    number = int(status.record["stop_signal"])
    sent: tuple[int, int] | None = None
    while True:
        live = status.live
        if live is None or status.has_ended:
            break
        init = (live["init"][0], live["init"][1])
        left = None if deadline is None else deadline - time.monotonic()
        try:
            if left is not None and left <= 0:
                send_signal(status, _SIGKILL)
                if status.word == PAUSED:
                    resume(engine, status)
                left = None
            elif sent != init:
                if status.word == PAUSED:
                    resume(engine, status)
                send_signal(status, _SIGKILL if status.word == INITIALIZED else number)
                sent = init
        except ProcessLookupError:
            pass
        # A monitor that restarts the container lives on: look again now and then.
        wait_monitor(engine, identity, live, min(left, 0.5) if left is not None else 0.5)
        try:
            status = status_of(engine, identity)
        except NotFound:
            return True
        if status.stale:
            with engine.containers.lock(identity):
                settle(engine, identity)
            break
    return True


def remove(
    engine: Engine,
    identity: str,
    *,
    force: bool = False,
    timeout_s: float | None = None,
    volumes: bool = False,
    depend: bool = False,
) -> None:
    """Remove a container; with `force` a running one too, with `depend` those that need it. NotFound where somebody else
    did it."""
    if depend:
        for other in dependents(engine, identity):
            try:
                remove(
                    engine, other, force=force, timeout_s=timeout_s, volumes=volumes, depend=True
                )
            except NotFound:
                continue
    check_free(engine, identity)
    while True:
        status = status_of(engine, identity)
        if status.word in (RUNNING, PAUSED, INITIALIZED) or status.is_restarting:
            if not force and status.word != INITIALIZED:
                raise InvalidState(
                    f"cannot remove container {identity} as it is {shown(status)} - running or paused containers cannot be "
                    "removed without force: container state improper",
                    exit_code=2,
                )
            stop(
                engine, identity, status.record["stop_timeout"] if timeout_s is None else timeout_s
            )
            continue
        if status.word == STOPPING:
            wait_monitor(engine, identity, status.live)
        with engine.containers.lock(identity):
            settle(engine, identity)
            status = status_of(engine, identity)
            if status.word in (CREATED, EXITED):
                delete(engine, status.record, volumes=volumes)
                return


def delete(engine: Engine, record: dict[str, Any], *, volumes: bool = False) -> None:
    """Take an ended container away with what is its own; called with its lock held."""
    with_volumes = volumes or bool(record["options"].get("rm"))
    engine.containers.remove(record["id"], record["name"])
    if with_volumes and record.get("mounts"):
        from rootless.container import volumes as own

        own.remove_anonymous(engine, record)
    events.container_event(engine, record, "remove")


def pause(engine: Engine, status: Status) -> None:
    """Freeze every process of a container: by the cgroup freezer or, without one, by SIGSTOP to each."""
    from rootless.container import freezer

    freezer.pause(engine, status)


def resume(engine: Engine, status: Status) -> None:
    """`unpause`."""
    from rootless.container import freezer

    freezer.resume(engine, status)


def wait_exit(engine: Engine, identity: str) -> int:
    """Wait for a container's end; its exit code, also where `--rm` takes the record away with it."""
    from rootless.runtime import attach

    status = status_of(engine, identity)
    if status.word in (CREATED, INITIALIZED, EXITED) and not status.live:
        return status.exit_code
    try:
        link = attach.Link.connect(engine.containers.run_folder(identity))
    except OSError:
        link = None
    if link is not None:
        while True:
            try:
                kind, data, _ = link.receive()
            except ConnectionResetError:
                kind = b""
            if kind == attach.EXITED:
                return int(data)
            if not kind:
                break
    try:
        return status_of(engine, identity).exit_code
    except NotFound:
        return status.exit_code
