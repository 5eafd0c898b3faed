"""A relay that nobody uses, as a program of some hundred bytes, and again as itself with its next client.

The relay begins as a copy of its container's monitor (18 MB once that sleeps). It has left that behind after a minute in
which it had a moment without connections; and what follows it, after each quiet minute (rootless/linux/sleeper.py).
"""

from __future__ import annotations

import marshal
import os
import sys

from rootless.files import write_all
from rootless.interpreter import command
from rootless.linux import signal
from rootless.linux import sockets as socket
from rootless.linux.prctl import keep_capabilities
from rootless.linux.process import set_name, set_title
from slirp import relay
from slirp.process import die_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def rest(listeners: Sequence[relay.Listener], inside: relay.Inside, lifeline: int) -> None:
    """Become a sleeper; returns where that cannot be."""
    from rootless.linux import sleeper

    outer = [(one.outer.fileno(), one.is_udp, one.port) for one in listeners]
    descriptors = [lifeline, *(fd for fd, _, _ in outer)]
    kept = (outer, inside.targets, inside.keeps_tcp, inside.keeps_udp, inside.is_container)
    memory = os.memfd_create("relay", os.MFD_CLOEXEC)
    try:
        write_all(memory, marshal.dumps((kept, lifeline)))
        # A sleeper would take its time over the end of its monitor.
        die_with(lifeline)
        keep_capabilities()
        for fd in (*descriptors, memory):
            os.set_inheritable(fd, True)
        sleep = sleeper.Sleep(
            relay.NAME,
            sys.executable,
            [*command("slirp.relayrest"), str(memory)],
            descriptors=descriptors,
        )
        environment = {"LANG": "C.UTF-8", "ROOTLESS_SETTLE_S": str(relay.SETTLE_S)}
        sleeper.execute(sleep, title=relay.TITLE, environment=environment)
    except OSError:
        # Another kind of machine, or more ports than it can wait for.
        for fd in descriptors:
            os.set_inheritable(fd, False)
        os.close(memory)


def main() -> NoReturn:
    """Argument: the descriptor of what `rest` has kept."""
    set_name(relay.NAME)
    set_title(relay.TITLE)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    memory = int(sys.argv[1])
    kept, lifeline = marshal.loads(os.pread(memory, os.fstat(memory).st_size, 0))
    os.close(memory)
    outer, targets, keeps_tcp, keeps_udp, is_container = kept
    inside = relay.Inside((), -1, -1, is_container=is_container)
    inside.targets, inside.keeps_tcp, inside.keeps_udp = targets, keeps_tcp, keeps_udp
    listeners = []
    for fd, is_udp, port in outer:
        os.set_inheritable(fd, False)
        one = socket.socket(fileno=fd)
        one.setblocking(False)
        listeners.append(relay.Listener(one, is_udp, port))
    os.set_inheritable(lifeline, False)
    relay.Relay(listeners, inside, lifeline, is_copy=False).run()
    os._exit(0)
