"""The channel between the parent (monitor) and init while a container starts.

    parent                                        init
    clone3(user, mount, pid, …) ───────────────►
    writes the id maps
        ─── MAPPED ────────────────────────────►  becomes root of its namespace, opens bind sources
    starts the network helper                     makes the root file system, leaves the host's
        ◄── CONSOLE + descriptor (with -t) ─────
        ◄── MOUNTED, HOOKED ──► (only where there are hooks for that moment)
        ◄── PREPARED ───────────────────────────
    waits for the network, records the pid
        ─── START ─────────────────────────────►  limits, ids, capabilities, seccomp, execve
        ◄── LISTENER + descriptor (where a filter notifies an agent)
        ◄── end of file: the program runs
        ◄── FAILED + what went wrong, at any moment

A message is one packet: a byte for what has just been completed, then data.
"""

from __future__ import annotations

import os

from rootless.errors import CommandNotExecutable, CommandNotFound, RootlessError, SetupError
from rootless.linux import sockets as socket

MAPPED = b"m"
CREATED = b"c"
CONSOLE = b"t"
MOUNTED = b"o"
HOOKED = b"h"
PREPARED = b"p"
START = b"s"
LISTENER = b"l"
FAILED = b"f"


class Channel:
    """One end of the pair; closed on exec."""

    __slots__ = ("socket",)

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, kind: bytes, data: bytes = b"", fd: int = -1) -> None:
        self.socket.sendmsg([kind, data], socket.rights((fd,) if fd >= 0 else ()))

    def receive(self) -> tuple[bytes, bytes, int]:
        """The next message as (kind, data, descriptor or -1); kind is empty at the end of file."""
        try:
            data, ancillary = self._take()
        except ConnectionResetError:
            # Said once, of an end that was closed with something unread in it; what it had sent is still there.
            data, ancillary = self._take()
        fds = socket.descriptors(ancillary)
        for extra in fds[1:]:
            os.close(extra)
        return data[:1], data[1:], fds[0] if fds else -1

    def _take(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        data, ancillary, _, _ = self.socket.recvmsg(65536, 64, socket.MSG_CMSG_CLOEXEC)
        return data, ancillary

    def expect(self, kind: bytes) -> tuple[bytes, int]:
        """Receive a message of one kind; raise what a FAILED one says, or SetupError at the end of file."""
        got, data, fd = self.receive()
        if got == kind:
            return data, fd
        if got == FAILED:
            raise decode_failure(data)
        raise SetupError("the other side ended before it was ready", stage="sync")

    def failure(self) -> RootlessError | None:
        """What the other side has failed at, if it has said so already; asked when this side has failed."""
        self.socket.setblocking(False)
        try:
            kind, data, fd = self.receive()
        except OSError:
            return None
        finally:
            self.socket.setblocking(True)
        if fd >= 0:
            os.close(fd)
        return decode_failure(data) if kind == FAILED else None

    def close(self) -> None:
        self.socket.close()


def encode_failure(stage: str, error: BaseException) -> bytes:
    """stage, class, exit code, errno, message and hint, separated by NUL: nothing here may need an import inside the
    container."""
    name = "SetupError"
    number = 0
    code = 125
    hint = ""
    if isinstance(error, RootlessError):
        if isinstance(error, (CommandNotFound, CommandNotExecutable)):
            name = type(error).__name__
        number = getattr(error, "errno", 0)
        if not number and isinstance(error.__cause__, OSError):
            number = error.__cause__.errno or 0
        code = error.exit_code
        message, hint = error.message, error.hint
        stage = getattr(error, "stage", "") or stage
    elif isinstance(error, OSError):
        number = error.errno or 0
        message = (error.strerror or str(error)).lower()
        if error.filename is not None:
            shown = error.filename if isinstance(error.filename, str) else repr(error.filename)
            message = f"{shown}: {message}"
        if stage:
            message = f"container's init, {stage}: {message}"
        elif error.filename is None:
            message = f"container's monitor: {message}"
    else:
        message = f"{type(error).__name__}: {error}"
    return "\0".join((stage, name, str(code), str(number), message, hint)).encode(
        "utf-8", "surrogateescape"
    )


def decode_failure(data: bytes) -> RootlessError:
    """The error that `encode_failure` has written, as one of its class."""
    stage, name, code, number, message, hint = data.decode("utf-8", "surrogateescape").split(
        "\0", 5
    )
    if name == "CommandNotFound":
        return CommandNotFound(message, hint=hint)
    if name == "CommandNotExecutable":
        return CommandNotExecutable(message, hint=hint)
    failure = SetupError(message, stage=stage, errno=int(number), hint=hint)
    failure.exit_code = int(code)
    return failure
