"""The protocol between a monitor and those who attach to its container: packets on a unix socket, with descriptors.

    client                                  monitor
    ATTACH flags + [stdout, stderr] ──────►
          ◄─ INPUT + [stdin or terminal] ── what the client writes to, and resizes
    END_INPUT ─────────────────────────────► the container's standard input ends, where no-one else holds it
    START ─────────────────────────────────► for a container that was made with `init`
          ◄─ RUNNING pid / FAILED ──────────
          ◄─ FAILED ──────────────────────── where the client's output cannot take what is written; the container goes on
          ◄─ EXITED code ─────────────────── after the container's own end and its cleaning up
    RUN argument ──────────────────────────► an action of the engine's (a health check)
          ◄─ RESULT ─────────────────────────

The monitor writes the container's output to the client's own descriptors: nothing is copied twice, and what comes out
of a pipe keeps its order. The socket lies in a 0700 folder and takes connections of its own user only.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from rootless.linux import sockets as socket

ATTACH = b"A"
INPUT = b"I"
END_INPUT = b"E"
START = b"S"
RUNNING = b"R"
FAILED = b"F"
EXITED = b"X"
RUN = b"H"
RESULT = b"h"

WITH_STDIN, WITH_STDOUT, WITH_STDERR = 1, 2, 4

# A pipe or socket without a reader, a terminal that has been hung up: no-one misses what is written there.
_READER_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EIO)


class Link:
    """One end of a connection."""

    __slots__ = ("socket",)

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    @classmethod
    def pair(cls) -> tuple[Link, Link]:
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        return cls(ours), cls(theirs)

    @classmethod
    def connect(cls, folder: str) -> Link:
        """Connect to the monitor whose run folder this is; through a descriptor, since sun_path holds 107 bytes."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            end.connect(f"/proc/self/fd/{fd}/attach")
        except BaseException:
            end.close()
            raise
        finally:
            os.close(fd)
        return cls(end)

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, kind: bytes, data: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        self.socket.sendmsg([kind, data], socket.rights(fds), socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[bytes, bytes, list[int]]:
        """(kind, data, descriptors); kind is empty at the end."""
        try:
            return self._receive()
        except ConnectionResetError:
            # The other side ended with something of ours unread: told once, before its own last words (unix(7)).
            return self._receive()

    def _receive(self) -> tuple[bytes, bytes, list[int]]:
        data, ancillary, _, _ = self.socket.recvmsg(65536, 256, socket.MSG_CMSG_CLOEXEC)
        return data[:1], data[1:], socket.descriptors(ancillary)

    def close(self) -> None:
        self.socket.close()


def listen(folder: str) -> socket.socket:
    """The monitor's socket in its run folder."""
    end = socket.socket(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.unlink("attach", dir_fd=fd)
        except FileNotFoundError:
            pass
        end.bind(f"/proc/self/fd/{fd}/attach")
    finally:
        os.close(fd)
    end.listen(64)
    return end


def peer_uid(end: socket.socket) -> int:
    """The uid at the other end (unix(7), SO_PEERCRED)."""
    return int(struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


class Sink:
    """A descriptor of somebody else's, written to without ever blocking the writer and without changing its mode.

    O_NONBLOCK belongs to the open file, which its owner and others share: so pipes and terminals are opened once more,
    sockets are sent to with MSG_DONTWAIT, and files, which do not block, are written to.
    """

    __slots__ = ("fd", "pending", "_socket", "_small", "broken", "lost")

    def __init__(self, fd: int) -> None:
        self.pending: memoryview | None = None
        self.broken = False
        # The errno of a write that failed with a reader still there: its disk is full.
        self.lost = 0
        self._socket: socket.socket | None = None
        self._small = False
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=fd)
        elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            try:
                again = os.open(
                    f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                )
                os.close(fd)
                fd = again
            except OSError:
                self._small = True  # another user's terminal (su): a page at a time after poll(2) does not block
        self.fd = fd

    def is_broken(self) -> bool:
        """Whether a write has failed; nothing more is written."""
        return self.broken

    def write(self, data: bytes) -> bool:
        """Write; False where some of it has to wait until `flush` is called at POLLOUT."""
        self.pending = memoryview(data)
        return self.flush()

    def flush(self) -> bool:
        view = self.pending
        while view is not None and len(view) and not self.broken:
            try:
                if self._socket is not None:
                    sent = self._socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                elif self._small:
                    sent = os.write(self.fd, view[:4096])
                    view = view[sent:]
                    if len(view):
                        self.pending = view
                        return False
                    break
                else:
                    sent = os.write(self.fd, view)
            except BlockingIOError:
                self.pending = view
                return False
            except OSError as error:
                self.broken = True
                if error.errno not in _READER_GONE:
                    self.lost = error.errno or errno.EIO
                continue
            view = view[sent:]
        self.pending = None
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        elif self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
