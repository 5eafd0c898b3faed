"""Names of a network's members, answered on its gateway; everything else is passed on, or unknown at once.

The wire format is dnslib's work: what containers send is hostile. It is imported with the first question, which no
start of a container waits for. A network without a way out never passes anything on (security case 44).

aardvark-dns answers in our place (aardvark.py) where its version 1.13 or later is installed, where dnslib is missing, or
where containers.conf has `resolver = "aardvark-dns"`. Earlier versions are not preferred, for their records do not
follow: a name's answer may be kept for a day (1.4.0, Debian 12), or a minute from 1.6 on, by whoever keeps answers; while
1.4.0 reads a change it drops questions, whose askers wait for five seconds; it answers by UDP only, and looks for a name
on one of its asker's networks. What we do in each case is the same, by measurement on Debian 12:

    resolver             a member's name    memory while asked, and asleep           the first container on a network
    ours                 0.11 ms            12.2 MB, of which dnslib takes 7; none   1
    aardvark-dns 1.4.0   0.03 ms            2.3 MB; the same                         1.1

Ours sleeps with the router after a quiet minute, and the next question waits for it: 0.1 to 0.2 s on a busy machine.

By itself aardvark-dns would not answer at all for an outside name where there is no way out (measured: 20 seconds), and
would be a daemon that outlives everybody; for both see aardvark.py.
"""

from __future__ import annotations

import _socket
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable

_TTL_S = 0  # a name may move to another address with the next start
_UPSTREAM_TIMEOUT_S = 5.0
_OFFLINE_TIMEOUT_S = 0.2
# Until a question is asked again, of the next server if there is one: pasta of 2023 loses an answer in two hundred.
_AGAIN_S = 1.0
_MAX_PENDING = 1024
_PORT = 53
_POLLIN = 1  # <poll.h>
_A, _AAAA, _PTR, _ANY = 1, 28, 12, 255
_NXDOMAIN, _SERVFAIL = 3, 2


def is_available() -> bool:
    """Whether questions can be read."""
    return any(finder.find_spec("dnslib", None) is not None for finder in sys.meta_path)


class Names:
    """What one network's members are called: lower-case names to addresses, and back."""

    __slots__ = ("addresses", "upstream", "domain")

    def __init__(self, upstream: list[str], domain: str = "dns.podman") -> None:
        self.addresses: dict[str, list[str]] = {}
        self.upstream = upstream  # empty: unknown names do not exist
        self.domain = domain

    def add(self, name: str, address: str) -> None:
        known = self.addresses.setdefault(name.lower(), [])
        if address not in known:
            known.append(address)

    def lookup(self, name: str) -> list[str] | None:
        """The addresses of a name with or without the networks' domain; None where it is nobody's."""
        name = name.rstrip(".").lower()
        found = self.addresses.get(name)
        if found is None and name.endswith("." + self.domain):
            found = self.addresses.get(name[: -len(self.domain) - 1])
        return found

    def is_local(self, name: str) -> bool:
        """Whether a name can only be a member's, so that asking others would be of no use."""
        name = name.rstrip(".").lower()
        return name == self.domain or name.endswith("." + self.domain)

    def reverse(self, address: str) -> list[str]:
        return [name for name, known in self.addresses.items() if address in known]


def answer(question: bytes, networks: list[Names]) -> bytes | None:
    """The answer from the members' names; None where upstream servers should be asked.

    `networks`: all that the asker is on. ValueError for what is no question.
    """
    try:
        import dnslib
    except ImportError:
        return failure(question)
    try:
        request = dnslib.DNSRecord.parse(question)
    except (dnslib.DNSError, ValueError, UnicodeError, IndexError) as error:
        raise ValueError(str(error)) from None
    if request.header.qr or request.header.opcode or len(request.questions) != 1:
        raise ValueError("not a standard question")
    reply = request.reply(ra=1, aa=0)
    kind = request.q.qtype
    name = str(request.q.qname)
    if kind == _PTR:
        address = reverse_address(name)
        hosts = (
            [host for network in networks for host in network.reverse(address)] if address else []
        )
        if hosts:
            reply.add_answer(dnslib.RR(name, _PTR, rdata=dnslib.PTR(f"{hosts[0]}."), ttl=_TTL_S))
            return bytes(reply.pack())
    known = False
    for network in networks:
        found = network.lookup(name)
        if found is None:
            continue
        known = True
        for address in found:
            if ":" in address and kind in (_AAAA, _ANY):
                reply.add_answer(dnslib.RR(name, _AAAA, rdata=dnslib.AAAA(address), ttl=_TTL_S))
            elif ":" not in address and kind in (_A, _ANY):
                reply.add_answer(dnslib.RR(name, _A, rdata=dnslib.A(address), ttl=_TTL_S))
    if known:
        # A name without addresses of this family exists all the same: no error, no answer.
        return bytes(reply.pack())
    if any(network.upstream for network in networks) and not networks[0].is_local(name):
        return None
    reply.header.rcode = _NXDOMAIN
    return bytes(reply.pack())


def forwarded(question: bytes, networks: list[Names]) -> bytes | None:
    """As `answer`, for a question that aardvark-dns has found no member for."""
    if len(question) < 12:
        raise ValueError("too short")
    return None if any(network.upstream for network in networks) else failure(question, _NXDOMAIN)


def failure(question: bytes, code: int = _SERVFAIL) -> bytes:
    """SERVFAIL, or another code, for a question, made without parsing more than its header."""
    if len(question) < 12:
        return b""
    flags = 0x8080 | int.from_bytes(question[2:4], "big") & 0x7900 | code
    return question[:2] + flags.to_bytes(2, "big") + question[4:6] + bytes(6) + question[12:]


def reverse_address(name: str) -> str:
    """2.0.89.10.in-addr.arpa. → 10.89.0.2; empty for what is no such name."""
    labels = name.rstrip(".").lower().split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return _socket.inet_ntoa(bytes(int(label) for label in labels[3::-1]))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            return _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex("".join(labels[31::-1])))
    except (ValueError, OSError):
        pass
    return ""


class Asker:
    """Where an answer goes back to."""

    __slots__ = ("send", "ident", "deadline", "again", "question", "servers")

    def __init__(
        self, send: Callable[[bytes], None], question: bytes, servers: list[str], deadline: float
    ) -> None:
        self.send = send
        self.ident = question[:2]
        self.question = question
        self.servers = servers  # those that were not asked yet
        self.deadline = deadline
        self.again = deadline  # when to ask once more


class Upstream:
    """Questions under way to other servers, one connected socket each: a stray answer reaches nobody.

    The operating system's choice of a port, and an id of our own, keep a forged answer from matching.
    """

    __slots__ = ("is_offline", "_poll", "_waiting")

    def __init__(self, poll: select.poll) -> None:
        # The host had no way out when it was looked at: whoever does not answer at once never will, and a name that
        # nobody knows does not exist. Until an answer comes, for networks come back.
        self.is_offline = False
        self._poll = poll
        self._waiting: dict[int, tuple[_socket.socket, bytes, Asker]] = {}

    def deadline(self) -> float:
        """Until when an answer to a question of now is waited for."""
        return now() + (_OFFLINE_TIMEOUT_S if self.is_offline else _UPSTREAM_TIMEOUT_S)

    def ask(self, asker: Asker) -> None:
        """Send to the first server that can be reached; where there is none, and none is waited for, that is the answer."""
        while asker.servers and len(self._waiting) < _MAX_PENDING:
            server = asker.servers.pop(0)
            family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
            try:
                one = _socket.socket(
                    family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, 0
                )
            except OSError:
                continue
            ident = os.urandom(2)
            try:
                one.connect((server, _PORT))
                one.send(ident + asker.question[2:])
            except OSError:
                one.close()
                continue
            asker.again = now() + _AGAIN_S
            self._waiting[one.fileno()] = (one, ident, asker)
            self._poll.register(one.fileno(), _POLLIN)
            return
        if not self._of(asker):
            asker.send(failure(asker.question))

    def owns(self, fd: int) -> bool:
        return fd in self._waiting

    def receive(self, fd: int) -> None:
        """Pass an answer on; a server that cannot be reached leaves the question to the next one."""
        one, ident, asker = self._waiting[fd]
        try:
            data = one.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(fd)
            self.ask(asker)
        elif data[:2] == ident and data[4:6] == asker.question[4:6]:
            for other in self._of(asker):
                self._forget(other)
            self.is_offline = False
            asker.send(asker.ident + data[2:])

    def _of(self, asker: Asker) -> list[int]:
        """The sockets on which an answer to one asker may come."""
        return [fd for fd, (_, _, whose) in self._waiting.items() if whose is asker]

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._waiting.pop(fd)[0].close()

    def expire(self, now: float) -> None:
        """Give up on what has waited too long, and ask again where an answer should have come."""
        for asker in {id(asker): asker for _, _, asker in self._waiting.values()}.values():
            if asker.deadline <= now:
                for fd in self._of(asker):
                    self._forget(fd)
                asker.send(failure(asker.question, _NXDOMAIN if self.is_offline else _SERVFAIL))
            elif asker.again <= now:
                self._ask_again(asker)

    def _ask_again(self, asker: Asker) -> None:
        asker.again = now() + _AGAIN_S
        if asker.servers:
            self.ask(asker)
            return
        for fd in self._of(asker):
            one, ident, _ = self._waiting[fd]
            try:
                one.send(ident + asker.question[2:])
            except OSError:
                pass  # `receive` hears of it as well

    def next_deadline(self) -> float | None:
        """When `expire` has something to do; None where nothing is waited for."""
        if not self._waiting:
            return None
        return min(min(asker.deadline, asker.again) for _, _, asker in self._waiting.values())


def now() -> float:
    return time.monotonic()
