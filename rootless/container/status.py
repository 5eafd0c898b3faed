"""What a container is at this moment, asked of the kernel, and clearing up after monitors that were killed."""

from __future__ import annotations

import os
import time

from rootless.errors import NotFound, RootlessError
from rootless.linux.process import read_file
from rootless.paths import UNSHARED_DATA
from rootless.state import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine

CREATED = "created"
INITIALIZED = "initialized"
RUNNING = "running"
PAUSED = "paused"
STOPPING = "stopping"
EXITED = "exited"


class Status:
    """A container's record with what the kernel says of it."""

    __slots__ = ("id", "record", "state", "live", "word", "stale")

    def __init__(
        self,
        identity: str,
        record: dict[str, Any],
        state: dict[str, Any],
        live: dict[str, Any] | None,
        word: str,
        stale: bool,
    ) -> None:
        self.id = identity
        self.record = record  # container.json
        self.state = state  # state.json: the last run's end
        self.live = live  # live.json, where a process of it lives
        self.word = word
        self.stale = stale  # a monitor was killed and nobody has recorded the end yet

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @property
    def is_running(self) -> bool:
        return self.word in (RUNNING, PAUSED)

    @property
    def is_restarting(self) -> bool:
        """Whether its monitor is between two runs."""
        return self.live is not None and self.live.get("phase") == "restarting"

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs, and nothing will by itself."""
        return self.word in (CREATED, EXITED) and not self.is_restarting

    @property
    def pid(self) -> int:
        """init's pid, 0 where none lives."""
        return (
            int(self.live["init"][0])
            if self.live and self.word in (RUNNING, PAUSED, INITIALIZED)
            else 0
        )

    @property
    def exit_code(self) -> int:
        return int(self.state.get("exit_code", 0))


def status_of(engine: Engine, identity: str) -> Status:
    """The status; NotFound where the container has been removed meanwhile. Takes no lock."""
    table = engine.containers
    record = table.read(identity)
    live = table.read_live(identity)
    state = table.read_state(identity)
    word = EXITED if state.get("finished_at") else CREATED
    if live is None:
        if word == CREATED and state.get("started_at"):
            if table.read_live(identity) is not None:
                return status_of(engine, identity)  # it began while this looked at it
            # A reboot has taken what was known of the run with it.
            lost = {
                **_lost(state),
                "finished_at": _boot_time_ns(),
                "error": "the machine was restarted",
            }
            return Status(identity, record, {**state, **lost}, None, EXITED, False)
        return Status(identity, record, state, None, word, False)
    init, monitor = process_of(live, "init"), process_of(live, "monitor")
    if init is not None and init.is_alive():
        word = live.get("phase", RUNNING)
        if word == RUNNING and is_frozen(live):
            word = PAUSED
        return Status(identity, record, state, live, word, False)
    if monitor is not None and monitor.is_alive():
        if live.get("phase") == "restarting":
            return Status(identity, record, state, live, EXITED, False)
        # Between init's end and the monitor's: it is over, and its end is being recorded.
        return Status(identity, record, table.read_state(identity), live, STOPPING, False)
    if table.read_live(identity) != live:
        return status_of(engine, identity)  # it ended properly while this looked at it
    return Status(identity, record, {**state, **_lost(live)}, live, EXITED, True)


def _lost(live: dict[str, Any]) -> dict[str, Any]:
    """How a run ended whose monitor was killed: init dies with it, by the same signal.

    Another runtime's init does not: PR_SET_PDEATHSIG is for a process to set for itself. It goes on, is shown as running
    and can be stopped, as Podman has it where conmon was killed; with what exit code it ended, nobody has seen then.
    """
    return {
        "exit_code": 137,
        "finished_at": time.time_ns(),
        "started_at": live.get("started_at", 0),
        "error": "the monitor was killed",
    }


def _boot_time_ns() -> int:
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def is_frozen(live: dict[str, Any]) -> bool:
    """Whether a container that is noted as paused is so still."""
    if not live.get("paused"):
        return False
    cgroup = live.get("cgroup")
    if not cgroup:
        return True
    try:
        return b"frozen 1" in read_file(f"{cgroup}/cgroup.events")
    except OSError:
        return True


def all_statuses(engine: Engine) -> list[Status]:
    """Every container, in the order of its making; those removed while this reads are passed over."""
    found = []
    for identity in engine.containers.ids():
        try:
            found.append(status_of(engine, identity))
        except NotFound:
            continue
        except RootlessError as error:
            from rootless import log

            log.warn(f"container {identity[:12]}: {error.message}")
    found.sort(key=lambda one: one.record.get("created", 0))
    if any(one.stale for one in found):
        for one in found:
            if one.stale:
                reconcile(engine, one.id)
        return [
            one
            for one in found
            if not (one.stale and os.path.exists(engine.containers.path(one.id)) is False)
        ]
    return found


def reconcile(engine: Engine, identity: str) -> None:
    """Record the end of a run whose monitor was killed, and do what it would have done. Nobody else's lock is waited
    for: whoever holds it does the same."""
    lock = engine.containers.lock(identity, block=False)
    try:
        if not lock.acquire():
            return
    except NotFound:
        return
    try:
        settle(engine, identity)
    finally:
        lock.release()


def settle(engine: Engine, identity: str) -> None:
    """`reconcile` with the container's lock held already."""
    table = engine.containers
    try:
        status = status_of(engine, identity)
    except NotFound:
        return
    if not status.stale or status.live is None:
        return
    from rootless.container.supervise import release

    release(engine, status.record, status.live)
    table.write_state(identity, {**status.state})
    table.clear_live(identity)
    if status.record["options"].get("rm"):
        from rootless.container.lifecycle import delete

        delete(engine, status.record)


def check_access(status: Status) -> None:
    """Refuse to go into a running container from a `rootless unshare` session that it was not started in.

    Its user namespace is a sibling of the session's then, and the kernel lets nobody go from one to the other.
    """
    if status.pid and UNSHARED_DATA in os.environ:
        try:
            os.stat(f"/proc/{status.pid}/ns/user")
        except PermissionError:
            raise RootlessError(
                f"container {status.name} was started outside of this `rootless unshare` session, "
                "whose user namespace may not look into the container's",
                hint="leave the session for this command, or start the container from within it",
            ) from None
        except FileNotFoundError:
            pass  # it has just ended
