"""A monitor between a container's start and its end, in an interpreter that has loaded nothing else (dormancy.py).

It moves output to the log and to clients, passes signals on and waits. Whatever else comes up (init's end, the network
helper's, a timer, a health check that is asked for) needs the engine, which is loaded then; dormancy.py may then leave it
behind once more.
"""

from __future__ import annotations

import marshal
import os
import sys

from rootless.container.logs import FileLog
from rootless.linux import signal
from rootless.linux.process import set_name, set_title
from rootless.runtime.monitor import Client, Monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from rootless.container.supervise import Supervisor

NAME = "rootless-mon"
#: Blocked from before execve until there is a handler: what a service manager sends meanwhile is not lost.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def title(identity: str) -> str:
    return f"rootless monitor {identity}"


class Idler:
    """The loop's handlers until the engine is needed."""

    __slots__ = ("memory", "engine_at", "monitor", "clients", "supervisor")

    def __init__(self, memory: int) -> None:
        self.memory = memory  # the loop's length, the loop, and what the engine is made of again
        os.set_inheritable(memory, False)
        size = int.from_bytes(os.pread(memory, 8, 0), "little")
        self.engine_at = 8 + size
        kept: dict[str, Any] = marshal.loads(os.pread(memory, size, 8))
        for fd in kept["descriptors"]:
            os.set_inheritable(fd, False)
        monitor = self.monitor = Monitor.thaw(kept["monitor"])
        self.clients: list[Client] = list(monitor.clients)
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
        monitor.on_action = lambda client, argument: self.wake()._act(client, argument)

    def wake(self) -> Supervisor:
        if self.supervisor is None:
            from rootless.container.dormancy import wake

            size = os.fstat(self.memory).st_size - self.engine_at
            engine = os.pread(self.memory, size, self.engine_at)
            os.close(self.memory)
            self.supervisor = wake(self, engine)
        return self.supervisor

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
