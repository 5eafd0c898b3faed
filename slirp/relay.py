"""Published ports that no helper carries well, carried by a small process of our own.

Its outer sockets are made in the host's network namespace, the inner ones, after it has joined another, in there: a
socket stays where it was made.

    - containers on bridges: the inner sockets are in the networks' namespace;
    - slirp4netns, which knows no IPv6 addresses of the host and, with its loopback cut off, drops the answers to UDP;
    - pasta before 2024_07: a server that speaks first waits for its client, who waits for it; connections by the
      host's own address lose data, those by IPv6 never begin; a UDP port under another number gets no answers.

A client's address is kept where it can be (divert.py). Clients on the host's loopback seem to come from the namespace's
own address, never from its loopback (security case 42).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
import time

from rootless.linux import signal
from rootless.linux import sockets as socket
from rootless.linux.fs import close_range
from rootless.linux.process import set_name, set_title
from rootless.linux.sched import CLONE_NEWNET, CLONE_NEWUSER, setns
from slirp import divert
from slirp.netlink import Netlink
from slirp.ports import refuse_sctp, refused
from slirp.process import Helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slirp.ports import PortMapping

NAME, TITLE = "rootless-relay", "rootless relay"
#: After how many quiet seconds it sleeps.
SETTLE_S = float(os.environ.get("ROOTLESS_SETTLE_S", "60"))
_CHUNK = 262_144
_LONG = 1 << 20  # bytes after which a stream is spliced
_PIPE = 1 << 20
_SPLICE_F_NONBLOCK = 2  # <fcntl.h>
_ROUNDS = 16  # of which one connection may take before it is another's turn
_UDP_IDLE_S = 60.0
_LINGER_NOT = (1).to_bytes(4, sys.byteorder) + bytes(4)  # struct linger: close(2) sends a reset
_MAX_UDP_PEERS = 4096

# <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>; not in `socket` of Python 3.11.
_IP_TRANSPARENT, _IPV6_TRANSPARENT, _IP_BIND_ADDRESS_NO_PORT, _SO_MARK = 19, 75, 24, 36


class Listener:
    """One published port's outer socket and where it leads."""

    __slots__ = ("outer", "is_udp", "port")

    def __init__(self, outer: socket.socket, is_udp: bool, port: int) -> None:
        self.outer = outer
        self.is_udp = is_udp
        self.port = port


class Inside:
    """Where what arrives is taken: the addresses of the server (one per family), and how its answers find back."""

    __slots__ = ("targets", "netns", "userns", "is_container", "keeps_tcp", "keeps_udp")

    def __init__(
        self,
        addresses: Sequence[str],
        netns: int,
        userns: int,
        *,
        is_container: bool,
        answers: bool = True,
    ) -> None:
        self.targets: dict[int, str] = {}
        for address in addresses:
            self.targets.setdefault(_family(address), address)
        self.netns = netns
        self.userns = userns
        self.is_container = is_container  # the namespace is the server's own, and prepared here
        # Whether a client's address can be kept: what the server sends to it must come back to this namespace.
        self.keeps_tcp = answers
        self.keeps_udp = answers and not is_container

    def enter(self) -> None:
        if self.userns >= 0:  # else we are in it
            setns(self.userns, CLONE_NEWUSER)
        setns(self.netns, CLONE_NEWNET)
        if self.is_container:
            try:
                with Netlink() as netlink:
                    divert.prepare_container(netlink)
            except OSError:
                self.keeps_tcp = False  # carried all the same

    def socket(
        self, outer: socket.socket, peer: tuple[str, int], kind: int
    ) -> tuple[socket.socket, str]:
        """One for a client, and the address to connect it to: of the client's family where the server has one."""
        family = outer.family if outer.family in self.targets else next(iter(self.targets))
        inner = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        keeps = self.keeps_udp if kind == socket.SOCK_DGRAM else self.keeps_tcp
        if keeps and family == outer.family and not _is_near(peer[0]):
            try:
                if family == socket.AF_INET6:
                    inner.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
                else:
                    inner.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
                mark = divert.MARK if self.is_container else divert.ASKED
                inner.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
                inner.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                inner.bind((peer[0], 0))
            except OSError:
                inner.close()
                inner = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        return inner, self.targets[family]


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _is_near(address: str) -> bool:
    """Of the loopback or of one link: such an address means something else in another namespace."""
    return address.startswith(("127.", "fe80:")) or address == "::1"


def start(mappings: Sequence[PortMapping], inside: Inside) -> Helper:
    """Take the ports and carry what arrives; Conflict where one is taken."""
    refuse_sctp(mappings)
    listeners: list[Listener] = []
    try:
        for mapping in mappings:
            for step in range(mapping.count):
                listeners += _listen(mapping, step)
        reads, lifeline = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if not pid:
            try:
                os.close(lifeline)
                _run(listeners, inside, reads)
            finally:
                os._exit(0)
        os.close(reads)
    finally:
        for listener in listeners:
            listener.outer.close()
    return Helper("relay", pid, os.pidfd_open(pid), lifeline)


def _listen(mapping: PortMapping, step: int) -> list[Listener]:
    found = []
    is_udp = mapping.protocol == "udp"
    port = mapping.host_port + step
    for address in (mapping.host_ip,) if mapping.host_ip else ("0.0.0.0", "::"):
        family = _family(address)
        kind = socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM
        try:
            outer = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            if family == socket.AF_INET6:
                outer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if not is_udp:
                outer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            outer.bind((address, port))
            if not is_udp:
                outer.listen(1024)
        except OSError as error:
            if address == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue  # a kernel without IPv6
            raise refused(address, port, mapping.protocol, error) from error
        found.append(Listener(outer, is_udp, mapping.container_port + step))
    return found


class _Half:
    """One direction of a connection: what was read from `source` and not yet taken by `sink`."""

    __slots__ = ("source", "sink", "left", "moved", "pipe", "ended", "closed")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.left = b""
        self.moved = 0
        self.pipe: _Pipe | None = None  # once it is worth its descriptors
        self.ended = False  # no more to read
        self.closed = False  # and the other side has been told


class _Pipe:
    """Carries a long stream without copying it: splice(2)."""

    __slots__ = ("reads", "writes", "held")

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.held = 0  # bytes
        try:
            fcntl.fcntl(self.writes, fcntl.F_SETPIPE_SZ, _PIPE)
        except OSError:
            pass  # the user's pipes have their limit; a smaller one does as well

    def fill(self, source: int) -> int:
        got = os.splice(source, self.writes, _PIPE, flags=_SPLICE_F_NONBLOCK)
        self.held += got
        return got

    def drain(self, sink: int) -> None:
        self.held -= os.splice(self.reads, sink, self.held, flags=_SPLICE_F_NONBLOCK)

    def close(self) -> None:
        os.close(self.reads)
        os.close(self.writes)


class _Pair:
    """A connection: both sockets and both directions."""

    __slots__ = ("sockets", "halves", "connecting")

    def __init__(self, outer: socket.socket, inner: socket.socket) -> None:
        self.sockets = (outer, inner)
        self.halves = (_Half(outer, inner), _Half(inner, outer))
        self.connecting = True


class Relay:
    """The event loop. Connections are watched for edges: each is carried until nothing more can be moved."""

    def __init__(
        self, listeners: Sequence[Listener], inside: Inside, lifeline: int, *, is_copy: bool = True
    ) -> None:
        self.listeners = listeners
        self.inside = inside
        self.leave_at = time.monotonic() + SETTLE_S if is_copy else None  # the monitor's memory
        self.lifeline = lifeline
        self.buffer = memoryview(bytearray(_CHUNK))
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.pairs: dict[int, _Pair] = {}
        self.paused: list[socket.socket] = []
        self.busy: list[_Pair] = []  # had their turn, but not enough of it
        # (outer socket's descriptor, peer) → inner socket; and when it was used last
        self.peers: dict[tuple[int, object], tuple[socket.socket, float]] = {}
        self.poll.register(lifeline, select.EPOLLIN)
        for listener in listeners:
            fd = listener.outer.fileno()
            self.poll.register(fd, select.EPOLLIN)
            self.handlers[fd] = self._udp(listener) if listener.is_udp else self._tcp(listener)

    def run(self) -> None:
        while True:
            is_used = bool(self.pairs or self.peers or self.paused)
            timeout = 0.0 if self.busy else _UDP_IDLE_S if self.peers else -1
            if not is_used:
                if self.leave_at is not None and time.monotonic() >= self.leave_at:
                    self._rest()
                timeout = SETTLE_S
            events = self.poll.poll(timeout)
            if not events and not is_used:
                self._rest()
            busy, self.busy = self.busy, []
            for pair in busy:
                if pair.sockets[0].fileno() >= 0:
                    self._carry(pair)
            for fd, _ in events:
                if known := self.pairs.get(fd):
                    self._carry(known)
                elif handler := self.handlers.get(fd):
                    handler()
                elif fd == self.lifeline:
                    return
            if self.peers:
                self._forget_idle()

    def _rest(self) -> None:
        from slirp.relayrest import rest

        self.leave_at = None
        rest(self.listeners, self.inside, self.lifeline)

    # --- TCP ---

    def _tcp(self, listener: Listener) -> Callable[[], None]:
        def accept() -> None:
            try:
                outer, peer = listener.outer.accept()
                inner, target = self.inside.socket(outer, peer, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.poll.unregister(listener.outer)
                    self.paused.append(listener.outer)  # until a connection ends
                return  # else the client is gone
            outer.setblocking(False)  # TCP_NODELAY it has from the listener
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failure = inner.connect_ex((target, listener.port))
            pair = _Pair(outer, inner)
            if failure not in (0, errno.EINPROGRESS):
                # The socket itself forgets this one, as of a network that is not there (yet).
                self._reset(pair)
                return
            for one in pair.sockets:
                self.pairs[one.fileno()] = pair
                self.poll.register(one, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            if not failure:  # on one machine it often needs no waiting
                pair.connecting = False
                self._carry(pair)

        return accept

    def _carry(self, pair: _Pair) -> None:
        """Move what can be moved, and tell of an end."""
        try:
            if pair.connecting:
                inner = pair.sockets[1]
                number = inner.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number))
                try:
                    inner.getpeername()
                except OSError as error:
                    if error.errno == errno.ENOTCONN:
                        return  # an edge of the other side's
                    raise
                pair.connecting = False
            one, other = pair.halves
            if self._move(one) | self._move(other):
                self.busy.append(pair)
        except OSError:
            self._reset(pair)
            return
        if one.closed and other.closed:
            self._drop(pair)

    def _move(self, half: _Half) -> bool:
        """Whether there may be more to move just now."""
        source, sink = half.source, half.sink
        try:
            for _ in range(_ROUNDS):
                if half.left:
                    half.left = half.left[sink.send(half.left) :]
                elif half.pipe is not None and half.pipe.held:
                    half.pipe.drain(sink.fileno())
                elif half.ended:
                    if not half.closed:
                        half.closed = True
                        sink.shutdown(socket.SHUT_WR)
                    return False
                elif half.pipe is not None:
                    half.ended = not half.pipe.fill(source.fileno())
                else:
                    self._copy(half)
        except BlockingIOError:
            return False
        return True

    def _copy(self, half: _Half) -> None:
        got = half.source.recv_into(self.buffer)
        half.ended = not got
        half.moved += got
        sent = 0
        try:
            sent = half.sink.send(self.buffer[:got]) if got else 0
        finally:
            if sent < got:
                half.left = bytes(self.buffer[sent:got])  # the buffer is for all
        if half.moved > _LONG:
            try:
                half.pipe = _Pipe()
            except OSError:
                half.moved = 0  # no descriptors left

    def _reset(self, pair: _Pair) -> None:
        """Broken on one side: no orderly end on the other, which would pass for a complete answer."""
        for one in pair.sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._drop(pair)

    def _drop(self, pair: _Pair) -> None:
        for half in pair.halves:
            if half.pipe is not None:
                half.pipe.close()
        for one in pair.sockets:
            self.pairs.pop(one.fileno(), None)
            one.close()  # and with that it leaves the poll
        while self.paused:
            self.poll.register(self.paused.pop(), select.EPOLLIN)

    # --- UDP ---

    def _udp(self, listener: Listener) -> Callable[[], None]:
        outer = listener.outer

        def receive() -> None:
            for _ in range(128):
                try:
                    data, peer = outer.recvfrom(65535)
                except OSError:
                    return
                key = (outer.fileno(), peer)
                known = self.peers.get(key)
                if known is None:
                    if len(self.peers) >= _MAX_UDP_PEERS:
                        continue
                    try:
                        inner, target = self.inside.socket(outer, peer, socket.SOCK_DGRAM)
                    except OSError:
                        continue
                    inner.connect((target, listener.port))
                    self.handlers[inner.fileno()] = self._reply(outer, inner, peer, key)
                    self.poll.register(inner.fileno(), select.EPOLLIN)
                else:
                    inner = known[0]
                self.peers[key] = (inner, time.monotonic())
                try:
                    inner.send(data)
                except OSError:
                    pass  # nobody listens inside (yet): as on any network, the packet is lost

        return receive

    def _reply(
        self, outer: socket.socket, inner: socket.socket, peer: object, key: tuple[int, object]
    ) -> Callable[[], None]:
        def receive() -> None:
            for _ in range(128):
                try:
                    data = inner.recv(65535)
                except BlockingIOError:
                    return
                except OSError:
                    continue
                self.peers[key] = (inner, time.monotonic())
                try:
                    outer.sendto(data, peer)  # type: ignore[call-overload]
                except OSError:
                    pass

        return receive

    def _forget_idle(self) -> None:
        now = time.monotonic()
        for key, (inner, used) in list(self.peers.items()):
            if now - used > _UDP_IDLE_S:
                del self.peers[key]
                del self.handlers[inner.fileno()]
                self.poll.unregister(inner.fileno())
                inner.close()


def _run(listeners: Sequence[Listener], inside: Inside, lifeline: int) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    inside.enter()
    _raise_limit()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    _close_others({lifeline, *(listener.outer.fileno() for listener in listeners)})
    set_name(NAME)
    set_title(TITLE)
    Relay(listeners, inside, lifeline).run()


def _raise_limit() -> None:
    """A connection takes two descriptors, and there may be a thousand."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _close_others(kept: set[int]) -> None:
    """The monitor's terminals, logs and lines are not ours to hold."""
    previous = 2
    for fd in sorted(kept):
        if fd > previous + 1:
            close_range(previous + 1, fd - 1)
        previous = max(previous, fd)
    close_range(previous + 1)
