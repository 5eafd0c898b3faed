"""A container as a service of systemd's: readiness, main pid, and sockets that were opened for it.

Made in the command that systemd has started, whose environment names the sockets, and kept by the monitor over all of
the container's restarts. `--sdnotify` says who tells that it is ready:

    conmon      the monitor, once the program runs
    container   the program itself, on a socket of its own that the monitor passes on
    healthy     the monitor, after the first health check that passes
    ignore      nobody
"""

from __future__ import annotations

import os
import select

from rootless.errors import RootlessError
from rootless.systemd.notify import INSIDE, Activation, Notifier, Proxy, path_in, without

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.options import CreateOptions
    from rootless.container.spec import HostFacts
    from rootless.runtime.monitor import Monitor


class Service:
    """What the service manager has given to this start."""

    __slots__ = ("mode", "notifier", "activation", "folder", "proxy", "_told")

    def __init__(
        self, mode: str, notifier: Notifier | None, activation: Activation | None, folder: str
    ) -> None:
        self.mode = mode
        self.notifier = notifier
        self.activation = activation
        self.folder = folder
        self.proxy: Proxy | None = None
        self._told = False

    @property
    def _proxied(self) -> bool:
        return self.notifier is not None and self.mode == "container"

    def add_files(self, host: HostFacts) -> None:
        if self._proxied:
            host.files[INSIDE] = path_in(self.folder)

    def add_variables(self, spec: dict[str, Any]) -> None:
        if self._proxied:
            process = spec["process"]
            process["env"] = [
                *without(process["env"], ("NOTIFY_SOCKET",)),
                f"NOTIFY_SOCKET={INSIDE}",
            ]

    def add_pid(self, process: dict[str, Any], pid: int) -> None:
        """Called in the container's root before its program runs, which is `pid` to itself: LISTEN_PID has to be that."""
        if self.activation is not None:
            names = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
            process["env"] = [
                *without(process["env"], names),
                *self.activation.variables(pid),
            ]

    def descriptors(self) -> list[int]:
        return list(range(3, 3 + self.activation.count)) if self.activation is not None else []

    # in the monitor

    def begin(self) -> None:
        """Make the container's socket, which is bound into it."""
        if self._proxied and self.proxy is None:
            assert self.notifier is not None
            self.proxy = Proxy(self.folder, self.notifier)

    def running(self, monitor: Monitor) -> None:
        """The program runs: whose pid is to be watched from now on, and for `conmon` that this is all."""
        if self.proxy is not None:
            proxy = self.proxy
            monitor.watch(proxy.fileno(), select.POLLIN, lambda _: proxy.handle())
        if self.notifier is not None and not self._told:
            self._told = True
            ready = ("READY=1",) if self.mode == "conmon" else ()
            self.notifier.send(f"MAINPID={os.getpid()}", *ready)

    def healthy(self) -> None:
        if self.notifier is not None and self.mode == "healthy":
            self.notifier.send("READY=1")

    def ended(self, monitor: Monitor) -> None:
        """The run is over; the socket stays for the next one."""
        if self.proxy is not None:
            monitor.unwatch(self.proxy.fileno())

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()
            self.proxy = None


def find(options: CreateOptions, folder: str) -> Service | None:
    """What systemd has given to this command for its container; None where there is nothing."""
    notifier = Notifier.of(os.environ) if options.sdnotify != "ignore" else None
    activation = Activation.of(os.environ, os.getpid())
    if notifier is None and activation is None:
        return None
    # A unit of `generate systemd` starts what was made before it, and says whom it listens to.
    mode = os.environ.get("ROOTLESS_SDNOTIFY") or options.sdnotify
    return Service(mode, notifier, activation, folder)


def check_passthrough(driver: str) -> None:
    """What `passthrough` would put into the container: files, pipes and sockets; a terminal where it is asked for.

    A folder would be a way out of the container (openat(2) of `..`).
    """
    import stat

    for fd in (0, 1, 2):
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
            raise RootlessError(
                f"--log-driver {driver}: descriptor {fd} is a "
                f"{'folder' if stat.S_ISDIR(mode) else 'block device'}, which no container is to have",
                hint="redirect it from or to a file, a pipe or /dev/null",
            )
        if os.isatty(fd) and driver != "passthrough-tty":
            raise RootlessError(
                "--log-driver passthrough: cannot be used on a terminal, which the container could type into",
                hint="redirect standard input and output, or use --log-driver passthrough-tty with a trusted image",
            )
