"""A monitor between a container's start and its end, in an interpreter that has loaded nothing else (dormancy.py).

It moves output to the log and to clients, passes signals on and waits. Whatever else comes up (init's end, the network
helper's, a timer, a health check that is asked for) needs the engine, which is loaded then; dormancy.py may then leave it
behind once more. Where nothing has come up for as long as the engine waits before it goes, not even the interpreter
stays: the process becomes a sleeper (linux/sleeper.py), which executes this module again for the next thing that does.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

from rootless.container.logs import FileLog
from rootless.files import write_all
from rootless.linux import signal
from rootless.linux.process import set_name, set_title
from rootless.runtime.monitor import Client, Monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from rootless.container.supervise import Supervisor
    from rootless.systemd.journal import JournalLog

NAME = "rootless-mon"
#: Blocked from before execve until there is a handler: what a service manager sends meanwhile is not lost.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def title(identity: str) -> str:
    """The command line that a monitor shows in `ps`."""
    return f"rootless monitor {identity}"


def keep(
    monitor: Monitor,
    clients: Sequence[Client | None],
    watched: list[int],
    next_at: float | None,
    settle_s: float,
) -> dict[str, Any] | None:
    """What an Idler is made of again, as plain values; None while something is under way.

    :param clients: those that the engine knows, by the places at which it knows them
    :param watched: descriptors that have something to say to the engine
    :param next_at: when the engine has something to do, in seconds of the monotonic clock
    :param settle_s: after how many seconds without any event the interpreter may go
    """
    kept = monitor.freeze()
    if kept is None or monitor.poll.poll(0):
        return None
    log: Any = monitor.log
    journal = None
    if log is not None and not isinstance(log, FileLog):
        lines: JournalLog = log
        journal, log = lines.freeze(), lines.file
    return {
        "monitor": kept,
        "clients": [
            monitor.clients.index(one) if one in monitor.clients else None for one in clients
        ],
        "log": log.freeze() if log is not None else None,
        "journal": journal,
        "watched": watched,
        "next": next_at,
        "settle": settle_s,
        "descriptors": _open_descriptors(),
    }


def _open_descriptors() -> list[int]:
    """What execve would close: all of ours but the standard streams and those that the container is to have."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and not os.get_inheritable(fd):
                found.append(fd)
        except OSError:
            continue  # the folder's own
    return found


def rest(
    monitor: Monitor,
    kept: dict[str, Any],
    engine: bytes,
    arguments: list[str],
    environment: Mapping[str, str],
    *,
    awake: bool,
) -> None:
    """Become a sleeper that executes an interpreter for the next event; returns only where that cannot be.

    :param arguments: the interpreter's command line, of which all but the last two words are kept; its last is the
        container's id
    :param awake: where there can be no sleeper, go on in that interpreter at once
    """
    identity = arguments[-1]
    descriptors = kept["descriptors"]
    memory = os.memfd_create("monitor", os.MFD_CLOEXEC)
    arguments = [*arguments[:-2], str(memory), identity]
    try:
        loop = marshal.dumps(kept)
        write_all(memory, len(loop).to_bytes(8, "little") + loop + engine)
        for fd in (*descriptors, memory):
            os.set_inheritable(fd, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            _sleep(monitor, kept["next"], arguments, environment)
        except OSError:
            if not awake:
                raise
        os.execve(sys.executable, arguments, environment)
    except OSError:
        # No memory for another program, or none may be executed from it: this one goes on.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for fd in descriptors:
            os.set_inheritable(fd, False)
        os.close(memory)


def _sleep(
    monitor: Monitor, next_at: float | None, arguments: list[str], environment: Mapping[str, str]
) -> NoReturn:
    from rootless.linux import sleeper

    timeout_ms = None
    if next_at is not None:
        timeout_ms = max(0, int((next_at - time.monotonic()) * 1000)) + 1
    sleep = sleeper.Sleep(
        NAME,
        sys.executable,
        arguments,
        descriptors=sorted(monitor.handlers),
        signals=SIGNALS,
        timeout_ms=timeout_ms,
    )
    sleeper.execute(sleep, title=title(arguments[-1]), environment=environment)


class Idler:
    """The loop's handlers until the engine is needed."""

    __slots__ = ("memory", "engine_at", "kept", "turns", "monitor", "clients", "supervisor")

    def __init__(self, memory: int) -> None:
        self.memory = memory  # the loop's length, the loop, and what the engine is made of again
        os.set_inheritable(memory, False)
        size = int.from_bytes(os.pread(memory, 8, 0), "little")
        self.engine_at = 8 + size
        self.kept = kept = marshal.loads(os.pread(memory, size, 8))
        for fd in kept["descriptors"]:
            os.set_inheritable(fd, False)
        monitor = self.monitor = Monitor.thaw(kept["monitor"])
        self.clients: list[Client | None] = [
            None if place is None else monitor.clients[place] for place in kept["clients"]
        ]
        self.supervisor: Supervisor | None = None
        if kept["log"] is not None:
            log = monitor.log = FileLog.thaw(kept["log"])
            if kept["journal"] is not None:
                from rootless.systemd.journal import JournalLog

                monitor.log = JournalLog.thaw(log, kept["journal"])
        for fd in kept["watched"]:
            # The engine watches it by a handler of its own, for which it is still readable.
            monitor.watch(fd, 1, lambda _: self._wake_up())
        if kept["next"] is not None:
            monitor.at(kept["next"], self._wake_up)
        self.turns = 0
        monitor.after(kept["settle"], self._rest)
        monitor.on_action = lambda client, argument: self.wake()._act(client, argument)

    def _engine(self) -> bytes:
        return os.pread(self.memory, os.fstat(self.memory).st_size - self.engine_at, self.engine_at)

    def wake(self) -> Supervisor:
        if self.supervisor is None:
            from rootless.container.dormancy import wake

            engine = self._engine()
            os.close(self.memory)
            self.monitor.timers.clear()
            self.supervisor = wake(self, engine)
        return self.supervisor

    def _rest(self) -> float | None:
        """Sleep where nothing has happened since the last time."""
        monitor, before = self.monitor, self.kept
        settle_s: float = before["settle"]
        if monitor.turns != self.turns:
            self.turns = monitor.turns
            return settle_s
        kept = keep(monitor, self.clients, before["watched"], before["next"], settle_s)
        if kept is None:
            return settle_s
        rest(monitor, kept, self._engine(), sys.orig_argv, os.environ, awake=False)
        return None  # this machine has no sleepers

    def _wake_up(self) -> None:
        self.wake()

    def run(self) -> NoReturn:
        status = self.monitor.serve()
        self.wake().end(status)


def main() -> NoReturn:
    """Arguments: the descriptor of what is kept, the container's id."""
    memory, identity = sys.argv[1:3]
    set_name(NAME)
    set_title(title(identity))
    idler = Idler(int(memory))
    idler.monitor.forward_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    idler.run()
