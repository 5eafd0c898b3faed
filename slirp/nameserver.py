"""The sockets of the name server on the networks' gateways; what is answered is decided in dns.py."""

from __future__ import annotations

import os
import select
import struct

from rootless.linux import sockets as socket
from slirp import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

PORT = 53


class NameServer:
    """Part of a loop: registers its descriptors with `poll`, and `handle`s those that it owns."""

    __slots__ = ("_poll", "_names_for", "_answer_of", "_sockets", "_upstream")

    def __init__(
        self,
        poll: select.poll,
        names_for: Callable[[str, str], list[dns.Names]],
        answer_of: Callable[[bytes, list[dns.Names]], bytes | None] = dns.answer,
    ) -> None:
        self._poll = poll
        self._names_for = names_for  # (who asks, at which address) → all that he may ask
        self._answer_of = answer_of
        self._sockets: dict[int, tuple[socket.socket, str]] = {}
        self._upstream = dns.Upstream(poll)

    def owns(self, fd: int) -> bool:
        return fd in self._sockets or self._upstream.owns(fd)

    def timeout_s(self) -> float | None:
        """How long the loop may sleep; None for as long as it likes."""
        deadline = self._upstream.next_deadline()
        return None if deadline is None else max(0.0, deadline - dns.now())

    def handle(self, fd: int) -> None:
        if fd in self._sockets:
            self._answer(fd)
        else:
            self._upstream.receive(fd)

    def expire(self) -> None:
        self._upstream.expire(dns.now())

    def offline(self, is_offline: bool) -> None:
        """Whether the host had a way out when ours was made."""
        self._upstream.is_offline = is_offline

    def sockets(self) -> list[int]:
        return list(self._sockets)

    def freeze(self) -> Any:
        """What `thaw` needs in another interpreter of this process, where the sockets have the same numbers."""
        places = [(fd, gateway) for fd, (_, gateway) in self._sockets.items()]
        return places, self._upstream.is_offline

    def thaw(self, kept: Any) -> None:
        places, self._upstream.is_offline = kept
        for fd, gateway in places:
            one = socket.socket(fileno=fd)
            one.setblocking(False)
            self._sockets[fd] = (one, gateway)
            self._poll.register(fd, select.POLLIN)

    def listen(self, gateways: Iterable[str]) -> None:
        """Be there on these addresses, and nowhere else."""
        wanted = set(gateways)
        present = set()
        for fd, (one, gateway) in list(self._sockets.items()):
            if gateway in wanted:
                present.add(gateway)
            else:
                self._poll.unregister(fd)
                one.close()
                del self._sockets[fd]
        for gateway in wanted - present:
            family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                one = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((gateway, PORT))
                if kind == socket.SOCK_STREAM:
                    one.listen(64)
                self._sockets[one.fileno()] = (one, gateway)
                self._poll.register(one, select.POLLIN)

    def _answer(self, fd: int) -> None:
        one, gateway = self._sockets[fd]
        if one.type & 0xF == socket.SOCK_STREAM:
            self._answer_stream(one, gateway)
            return
        for _ in range(64):
            try:
                question, peer = one.recvfrom(4096)
            except OSError:
                return

            def send(data: bytes, peer: Any = peer, one: socket.socket = one) -> None:
                try:
                    one.sendto(data, peer)
                except OSError:
                    pass  # the container is gone

            networks = self._names_for(peer[0], gateway)
            try:
                data = self._answer_of(question, networks)
            except ValueError:
                continue
            if data is not None:
                send(data)
                continue
            servers = [server for network in networks for server in network.upstream]
            self._upstream.ask(dns.Asker(send, question, servers, self._upstream.deadline()))

    def _answer_stream(self, one: socket.socket, gateway: str) -> None:
        """Long answers go over TCP: rare enough for a child each, which may wait."""
        try:
            client, peer = one.accept()
        except OSError:
            return
        with client:
            # A child of a child: nobody has to wait for it.
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                return
            try:
                if os.fork() == 0:
                    client.settimeout(5)
                    self._serve_stream(client, self._names_for(peer[0], gateway))
            except (OSError, ValueError):
                pass
            finally:
                os._exit(0)

    def _serve_stream(self, client: socket.socket, networks: list[dns.Names]) -> None:
        for _ in range(8):
            question = _read_framed(client)
            if not question:
                return
            data = self._answer_of(question, networks)
            if data is None:
                data = dns.failure(question)
                for server in [server for network in networks for server in network.upstream]:
                    try:
                        family = socket.AF_INET6 if ":" in server else socket.AF_INET
                        with socket.socket(
                            family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC
                        ) as upstream:
                            upstream.settimeout(3)
                            upstream.connect((server, PORT))
                            upstream.sendall(struct.pack("!H", len(question)) + question)
                            data = _read_framed(upstream) or data
                        break
                    except OSError:
                        continue
            client.sendall(struct.pack("!H", len(data)) + data)


def _read_framed(end: socket.socket) -> bytes:
    header = end.recv(2, socket.MSG_WAITALL)
    if len(header) < 2:
        return b""
    return end.recv(struct.unpack("!H", header)[0], socket.MSG_WAITALL)
