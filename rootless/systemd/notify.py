"""sd_notify(3) in both directions: what the engine tells systemd, and what a container may tell it through us.

The container never gets the host's socket: it gets one of its own folder, and the monitor passes on what a service may
say of itself. MAINPID is the monitor's for the service's whole life; a pid of the container means nothing out here.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.linux import sockets as socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The socket as the container sees it.
INSIDE = "/run/notify/notify.sock"
_NAME = "notify.sock"
_PASSED_ON = (
    "READY", "RELOADING", "STOPPING", "STATUS", "ERRNO", "BUSERROR", "EXIT_STATUS", "WATCHDOG", "WATCHDOG_USEC",
    "EXTEND_TIMEOUT_USEC", "MONOTONIC_USEC",
)  # fmt: skip
_LARGEST = 4096
_DESCRIPTORS = 16


class Notifier:
    """Speaks to the service manager that started this command; where none did, there is no Notifier."""

    __slots__ = ("address",)

    def __init__(self, address: str) -> None:
        if not address.startswith(("/", "@")):
            raise RootlessError(f"NOTIFY_SOCKET={address}: neither a path nor an abstract socket")
        self.address = address

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier | None:
        address = environ.get("NOTIFY_SOCKET")
        return cls(address) if address else None

    def send(self, *lines: str) -> bool:
        """Tell; False where nobody takes it, which is no reason for a container to end."""
        address = self.address
        name = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
            try:
                end.connect(name)
                end.send("\n".join(lines).encode("utf-8", "surrogateescape"), socket.MSG_NOSIGNAL)
            except OSError:
                return False
        return True


class Proxy:
    """The container's socket, in the container's own run folder."""

    __slots__ = ("socket", "notifier", "on_ready", "_path")

    def __init__(
        self, folder: str, notifier: Notifier, on_ready: Callable[[], None] | None = None
    ) -> None:
        self.notifier = notifier
        self.on_ready = on_ready
        self._path = path_in(folder)
        end = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                os.unlink(_NAME, dir_fd=fd)
            except FileNotFoundError:
                pass
            # sun_path holds 107 bytes, and a home's path may be longer.
            end.bind(f"/proc/self/fd/{fd}/{_NAME}")
            # Any user of the container may speak; the folder around it is for none but ours.
            os.chmod(_NAME, 0o666, dir_fd=fd)
        finally:
            os.close(fd)
        self.socket = end

    def fileno(self) -> int:
        return self.socket.fileno()

    def handle(self) -> None:
        """Pass on one message."""
        try:
            data, ancillary, _, _ = self.socket.recvmsg(
                _LARGEST, 4 * _DESCRIPTORS + 64, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return
        lines = allowed(data)
        if lines:
            self.notifier.send(*lines)
        # BARRIER=1 waits for its descriptor's end; those of FDSTORE=1 are not kept: closed after passing on.
        for fd in socket.descriptors(ancillary):
            os.close(fd)
        if "READY=1" in lines and self.on_ready is not None:
            self.on_ready()

    def close(self) -> None:
        self.socket.close()
        try:
            os.unlink(self._path)
        except OSError:
            pass


def path_in(folder: str) -> str:
    """The notification socket in a container's run folder."""
    return f"{folder}/{_NAME}"


def allowed(data: bytes) -> list[str]:
    """The lines of a message that a container's program may have told."""
    text = data.decode("utf-8", "surrogateescape")
    return [
        line for line in text.split("\n") if line.partition("=")[0] in _PASSED_ON and "=" in line
    ]


class Activation:
    """Sockets that systemd has opened for this command: descriptors 3 and on, sd_listen_fds(3)."""

    __slots__ = ("count", "names")

    def __init__(self, count: int, names: str) -> None:
        self.count = count
        self.names = names

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> Activation | None:
        """What was passed to this very process; None where nothing was."""
        if environ.get("LISTEN_PID") != str(pid):
            return None
        try:
            count = int(environ.get("LISTEN_FDS", ""))
        except ValueError:
            return None
        if not 0 < count < 4096:
            return None
        for fd in range(3, 3 + count):
            try:
                os.fstat(fd)
            except OSError:
                raise RootlessError(
                    f"LISTEN_FDS={count}: descriptor {fd} is not open",
                    hint="unset LISTEN_FDS and LISTEN_PID, or start the unit from its socket unit",
                ) from None
        return cls(count, environ.get("LISTEN_FDNAMES", ""))

    def variables(self, pid: int) -> list[str]:
        """The environment that passes them on to process `pid`."""
        found = [f"LISTEN_FDS={self.count}", f"LISTEN_PID={pid}"]
        if self.names:
            found.append(f"LISTEN_FDNAMES={self.names}")
        return found


NAMES = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def without(env: list[str], names: tuple[str, ...] = NAMES) -> list[str]:
    """An environment without what is meant for another process (--env-host)."""
    return [entry for entry in env if entry.partition("=")[0] not in names]
