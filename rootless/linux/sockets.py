"""Sockets without the `socket` module, whose enums and selectors cost 5 ms at each start; import it as `socket`.

The constants and the class are those that `socket` itself is built on. Missing here is what nothing in a hot room
needs: names and addresses, makefile, sendfile.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from socket import *  # noqa: F403
    from socket import SCM_RIGHTS, SOL_SOCKET, socket, socketpair
else:
    import _socket
    from _socket import *  # noqa: F403
    from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET

    class socket(_socket.socket):
        """As socket.socket, of which this is the C part."""

        __slots__ = ()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def accept(self):
            fd, address = self._accept()
            return socket(self.family, self.type, self.proto, fileno=fd), address

        def __reduce__(self):
            # Into another interpreter of this process, where the descriptor is open under its number.
            return _again, (self.family, self.type, self.proto, self.fileno())

    def _again(family, type, proto, fd):
        return socket(family, type, proto, fileno=fd)

    def socketpair(family=AF_UNIX, type=SOCK_STREAM, proto=0):
        ends = _socket.socketpair(family, type, proto)
        return tuple(socket(family, type, proto, fileno=end.detach()) for end in ends)

    def send_fds(sock, buffers, fds):
        return sock.sendmsg(buffers, rights(fds))


def rights(fds: Iterable[int]) -> list[tuple[int, int, bytes]]:
    """sendmsg's ancillary data that hands descriptors over; unix(7), SCM_RIGHTS."""
    data = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    return [(SOL_SOCKET, SCM_RIGHTS, data)] if data else []


def descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in what recvmsg got as ancillary data."""
    found: list[int] = []
    for level, kind, value in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            found += memoryview(value[: len(value) - len(value) % 4]).cast("i").tolist()
    return found
