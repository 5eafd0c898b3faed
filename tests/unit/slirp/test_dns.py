"""slirp.dns: members' names are answered, others passed on or unknown; hostile packets do no harm."""

from __future__ import annotations

import random
import select
import socket
from collections.abc import Iterator

import dnslib
import pytest

from slirp import dns


def _names(*upstream: str) -> dns.Names:
    names = dns.Names(list(upstream))
    names.add("web", "10.89.0.2")
    names.add("web", "fd00::2")
    names.add("Alias", "10.89.0.2")
    return names


def _ask(name: str, kind: str = "A", *networks: dns.Names) -> object:
    question = bytes(dnslib.DNSRecord.question(name, kind).pack())
    reply = dns.answer(question, list(networks) or [_names()])
    return None if reply is None else dnslib.DNSRecord.parse(reply)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web", "A", ["10.89.0.2"]),
        ("WEB.", "A", ["10.89.0.2"]),
        ("web.dns.podman", "A", ["10.89.0.2"]),
        ("web", "AAAA", ["fd00::2"]),
        ("web", "ANY", ["10.89.0.2", "fd00::2"]),
        ("alias", "A", ["10.89.0.2"]),
        ("alias", "AAAA", []),
        ("web", "MX", []),
        ("2.0.89.10.in-addr.arpa", "PTR", ["web."]),
    ],
)
def test_members(name: str, kind: str, expected: list[str]) -> None:
    reply = _ask(name, kind)
    assert reply.header.rcode == 0  # type: ignore[attr-defined]
    assert [str(answer.rdata) for answer in reply.rr] == expected  # type: ignore[attr-defined]


def test_unknown_name_without_a_way_out_does_not_exist() -> None:
    assert _ask("example.org").header.rcode == 3  # type: ignore[attr-defined]


def test_unknown_name_is_passed_on() -> None:
    assert _ask("example.org", "A", _names("192.0.2.53")) is None


def test_members_domain_is_never_passed_on() -> None:
    assert _ask("no.dns.podman", "A", _names("192.0.2.53")).header.rcode == 3  # type: ignore[attr-defined]


def test_all_networks_of_the_asker_are_searched() -> None:
    other = dns.Names([])
    other.add("db", "10.89.1.2")
    assert [str(a.rdata) for a in _ask("db", "A", _names(), other).rr] == ["10.89.1.2"]  # type: ignore[attr-defined]


def test_case_44_internal_network_has_no_upstream() -> None:
    """With no server to ask there is nothing to carry data out in a name."""
    upstream = dns.Upstream(select.poll())
    answers: list[bytes] = []
    question = bytes(dnslib.DNSRecord.question("secret.example.org").pack())
    upstream.ask(dns.Asker(answers.append, question, [], upstream.deadline()))
    assert upstream.next_deadline() is None
    assert dnslib.DNSRecord.parse(answers[0]).header.rcode == 2


@pytest.mark.parametrize(("is_offline", "patience_s", "code"), [(True, 0.2, 3), (False, 5.0, 2)])
def test_host_without_a_way_out(is_offline: bool, patience_s: float, code: int) -> None:
    """A question is given up at once where nobody can answer, and the name unknown in the place of unanswered."""
    upstream = dns.Upstream(select.poll())
    upstream.is_offline = is_offline
    answers: list[bytes] = []
    question = bytes(dnslib.DNSRecord.question("example.org").pack())
    begin = dns.now()
    asker = dns.Asker(answers.append, question, ["127.0.0.9"], upstream.deadline())
    assert begin + patience_s <= asker.deadline <= dns.now() + patience_s
    upstream.ask(asker)
    upstream.expire(asker.deadline - 0.01)
    assert not answers and upstream.next_deadline() is not None
    upstream.expire(asker.deadline)
    assert upstream.next_deadline() is None
    header = dnslib.DNSRecord.parse(answers[0]).header
    assert (header.rcode, header.id) == (code, int.from_bytes(question[:2], "big"))


class Silent:
    """A server that hears questions and answers when it is told to."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.socket.settimeout(5)

    def hears(self) -> tuple[bytes, tuple[str, int]]:
        question, peer = self.socket.recvfrom(4096)
        return question, peer

    def hears_nothing(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Silent, Silent]]:
    first = Silent("127.0.0.1", 0)
    port = first.socket.getsockname()[1]
    second = Silent("127.0.0.2", port)
    monkeypatch.setattr(dns, "_PORT", port)
    yield first, second
    first.socket.close()
    second.socket.close()


def test_a_server_that_is_silent_leaves_the_question_to_the_next(
    servers: tuple[Silent, Silent],
) -> None:
    first, second = servers
    poll = select.poll()
    upstream = dns.Upstream(poll)
    answers: list[bytes] = []
    question = bytes(dnslib.DNSRecord.question("example.org").pack())
    asker = dns.Asker(answers.append, question, ["127.0.0.1", "127.0.0.2"], upstream.deadline())
    upstream.ask(asker)
    first.hears()
    upstream.expire(asker.again - 0.01)
    assert second.hears_nothing()
    upstream.expire(asker.again)
    asked, peer = second.hears()
    # From here on both are asked again, and the first answer ends it.
    upstream.expire(asker.again)
    assert second.hears()[0] == asked
    first.hears()
    second.socket.sendto(dns.failure(asked, 0), peer)
    [(fd, _)] = poll.poll(5000)
    upstream.receive(fd)
    assert dnslib.DNSRecord.parse(answers[0]).header.id == int.from_bytes(question[:2], "big")
    assert upstream.next_deadline() is None and poll.poll(0) == [] and len(answers) == 1


def test_a_server_that_refuses_while_another_is_waited_for(servers: tuple[Silent, Silent]) -> None:
    first, second = servers
    poll = select.poll()
    upstream = dns.Upstream(poll)
    answers: list[bytes] = []
    question = bytes(dnslib.DNSRecord.question("example.org").pack())
    second.socket.close()
    asker = dns.Asker(answers.append, question, ["127.0.0.1", "127.0.0.2"], upstream.deadline())
    upstream.ask(asker)
    asked, peer = first.hears()
    upstream.expire(asker.again)
    [(fd, _)] = poll.poll(5000)
    upstream.receive(fd)  # ICMP says that nobody listens there
    assert not answers
    first.socket.sendto(dns.failure(asked, 0), peer)
    [(fd, _)] = poll.poll(5000)
    upstream.receive(fd)
    assert len(answers) == 1 and upstream.next_deadline() is None


def test_garbage_is_refused() -> None:
    chance = random.Random(1)
    question = bytes(dnslib.DNSRecord.question("web").pack())
    for _ in range(500):
        packet = bytearray(question)
        for _ in range(chance.randrange(1, 6)):
            packet[chance.randrange(len(packet))] = chance.randrange(256)
        packet = packet[: chance.randrange(len(packet) + 1)]
        try:
            dns.answer(bytes(packet), [_names()])
        except ValueError:
            pass


def test_failure_needs_no_parsing() -> None:
    question = bytes(dnslib.DNSRecord.question("web").pack())
    reply = dnslib.DNSRecord.parse(dns.failure(question))
    assert (reply.header.rcode, reply.header.qr, reply.header.id) == (
        2,
        1,
        int.from_bytes(question[:2], "big"),
    )
    assert dns.failure(b"short") == b""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2.0.89.10.in-addr.arpa.", "10.89.0.2"),
        ("2" + ".0" * 27 + ".0.0.d.f.ip6.arpa", "fd00::2"),
        ("999.0.89.10.in-addr.arpa", ""),
        ("web", ""),
    ],
)
def test_reverse(name: str, expected: str) -> None:
    assert dns.reverse_address(name) == expected
