"""How a monitor leaves behind all that a container's start has loaded, and gets it back at the container's end.

A monitor is a fork of the command, so it has a copy of everything: 7 MB of its own. Once a container has run for a minute,
the monitor executes a program of some hundred bytes (linux/sleeper.py), which waits for anything to happen and then
executes a new interpreter with what an idle monitor needs, 3 MB (idle.py); that one sleeps again after a quiet minute:

    monitor                                       the same process, init's parent as before
    plain values for the loop ──── memory file ──► idle.py: Monitor, FileLog
    the Supervisor, pickled   ────────┘           … init's end, helper's end, timer, health check
                                                  the engine's modules, Supervisor again; and perhaps asleep again

Descriptors keep their numbers. What cannot be pickled is something under way: the monitor stays as it is, and tries
again later. The memory file goes from the process to itself and has no name.
"""

from __future__ import annotations

import gc
import io
import os
import select
import sys
import time
from _pickle import Pickler, PicklingError, Unpickler

from rootless.container import idle
from rootless.interpreter import command
from rootless.runtime.monitor import Client
from rootless.start import LOADER_VARIABLES, LateSite, find_compiled, give_back_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.idle import Idler
    from rootless.container.supervise import Supervisor


class _Pickler(Pickler):
    """Leaves out what the loop has anyway, and the store of images, which is opened again when it is needed."""

    def __init__(self, file: Any, supervisor: Supervisor) -> None:
        super().__init__(file, 5)
        self.left_out = {
            id(supervisor.monitor): "monitor",
            id(supervisor.log): "log",
            id(supervisor.engine._images): "none",
            id(supervisor.link): "none",
        }
        self.left_out.pop(id(None), None)
        self.clients = supervisor.monitor.clients

    def persistent_id(self, one: Any) -> Any:
        if isinstance(one, Client):
            return self.clients.index(one) if one in self.clients else "none"
        return self.left_out.get(id(one))

    def reducer_override(self, one: Any) -> Any:
        return (_epoll, (one.fileno(),)) if isinstance(one, select.epoll) else NotImplemented


def _epoll(fd: int) -> select.epoll:
    return select.epoll.fromfd(fd)


class _Unpickler(Unpickler):
    def __init__(self, file: Any, idler: Idler) -> None:
        super().__init__(file)
        self.idler = idler

    def persistent_load(self, name: Any) -> Any:
        if name == "monitor":
            return self.idler.monitor
        if name == "log":
            return self.idler.monitor.log
        return None if name == "none" else self.idler.clients[name]


def sleep(supervisor: Supervisor, settle_s: float) -> None:
    """Leave the engine behind; returns only where that cannot be now.

    :param settle_s: after how many quiet seconds the interpreter that follows may go as well
    """
    monitor = supervisor.monitor
    watched = _watched(supervisor)
    if watched is None or supervisor.record.get("runtime"):
        return
    timers = [timer for timer in monitor.timers if timer.act != supervisor._settle]
    next_at = min((timer.at for timer in timers), default=None)
    if next_at is not None and next_at <= time.monotonic():
        return  # perhaps what it was woken for
    kept = idle.keep(monitor, monitor.clients, watched, next_at, settle_s)
    if kept is None:
        return
    engine = io.BytesIO()
    try:
        _Pickler(engine, supervisor).dump((supervisor, timers))
    except (PicklingError, TypeError, AttributeError):
        return  # a closure, an open connection: something is under way
    arguments = [*command("rootless.container.idle"), "", supervisor.identity]
    idle.rest(monitor, kept, engine.getvalue(), arguments, _environment(), awake=True)


def wake(idler: Idler, engine: bytes) -> Supervisor:
    """The supervisor again, with all that it needs, in the loop that runs."""
    gc.set_threshold(50_000)
    find_compiled()
    if sys.flags.no_site:
        sys.meta_path.append(LateSite)
    give_back_variables()
    supervisor: Supervisor
    supervisor, timers = _Unpickler(io.BytesIO(engine), idler).load()
    idler.monitor.timers += timers
    supervisor.wake(idler.monitor)
    return supervisor


def _watched(supervisor: Supervisor) -> list[int] | None:
    """Descriptors that have something to say to the engine; None where it waits for more than these."""
    monitor, service, network = supervisor.monitor, supervisor.service, supervisor.network
    loop = {monitor.pidfd, *monitor.streams, *(one.link.fileno() for one in monitor.clients)}
    if monitor.listener is not None:
        loop.add(monitor.listener.fileno())
    lasting = set()
    if network is not None:
        lasting.add(network.helper_pidfd())
    if service is not None and service.proxy is not None:
        lasting.add(service.proxy.fileno())
    rest = set(monitor.handlers) - loop
    return sorted(rest) if rest <= lasting else None


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    for name in LOADER_VARIABLES:
        # Nothing that these name is loaded into the engine: see bin/rootless.
        if name in environment:
            environment[f"ROOTLESS_{name}"] = environment.pop(name)
    return environment
