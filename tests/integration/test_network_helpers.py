"""pasta and slirp4netns: what each of their options does, and what becomes of one that dies; both of Debian's versions."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support import host
from tests.support.engine import Engine
from tests.support.traffic import answers, ask, eventually, free_port, own_addresses, serve

pytestmark = pytest.mark.needs("userns", "subids", "tun")


def helper(net: Engine, what: str) -> int:
    return next((pid for pid, title in net.processes().items() if what in title), 0)


@pytest.mark.parametrize("driver", ["pasta", "slirp4netns"])
def test_end_of_a_helper_is_told(net: Engine, driver: str) -> None:
    """By the monitor in the container's log, where it is started again and where that is of no use any more."""
    host.require(driver)
    port = free_port()
    serve(net, "w", "--network", driver, "-p", f"127.0.0.1:{port}:7000")
    what = {"pasta": "--config-net", "slirp4netns": "slirp4netns "}[driver]
    end = f"{driver} was killed by signal 9 and cannot be started again: it has died 11 times"
    seen = 0
    for deaths in range(11):
        # One that is killed before it is ready has not been started again.
        assert eventually(lambda deaths=deaths: net("logs", "w").err.count("was started again") == deaths)  # type: ignore[misc]  # fmt: skip
        seen = eventually(lambda before=seen: helper(net, what) not in (0, before) and helper(net, what))  # type: ignore[misc]  # fmt: skip
        assert seen, net("logs", "w")
        os.kill(seen, signal.SIGKILL)
    assert eventually(lambda: end in net("logs", "w").err), net("logs", "w")
    lines = net("logs", "w").err.splitlines()
    assert lines.count(f"rootless: {driver} was killed by signal 9 and was started again") == 10
    assert lines[-1] == f"rootless: {end}; this container has no network any more"
    assert net.ok("exec", "w", "echo", "runs") == "runs"
    net.ok("restart", "-t0", "w")
    assert eventually(lambda: helper(net, what))
    assert eventually(lambda: answers(port))


class Listener:
    """A server of the host's that remembers who came."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.create_server((address, 0), family=family)
        self.port = int(self.socket.getsockname()[1])
        self.peers: list[str] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                one, peer = self.socket.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            one.close()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


@pytest.fixture
def loopback() -> Iterator[Listener]:
    one = Listener("127.0.0.1")
    yield one
    one.close()


def visit(net: Engine, network: str, address: str, port: int) -> None:
    script = f"import socket; socket.create_connection(({address!r}, {port}), 5).recv(1)"
    net.ok("run", "--rm", "--network", network, "host", "python3", "-Ic", script)


def test_slirp4netns_outbound_addr(net: Engine, version: str, loopback: Listener) -> None:
    """The address, or that of an interface, by which its connections leave the host."""
    base = "slirp4netns:allow_host_loopback=true"
    for words, seen in (
        ("", "127.0.0.1"),
        (",outbound_addr=127.0.0.5", "127.0.0.5"),
        (",outbound_addr=lo", "127.0.0.1"),
    ):
        visit(net, base + words, "10.0.2.2", loopback.port)
        assert loopback.peers.pop() == seen
    own = [address for address in own_addresses() if ":" in address]
    for address in own[:1]:
        six = Listener("::1")
        try:
            for words, seen in (("", "::1"), (f",outbound_addr6={address}", address)):
                visit(net, f"{base},enable_ipv6=true{words}", "fd00::2", six.port)
                assert six.peers.pop() == seen
        finally:
            six.close()


def test_slirp4netns_options_of_its_network(net: Engine, version: str, loopback: Listener) -> None:
    """cidr moves the gateway by which the host is reached, and only allow_host_loopback opens it."""
    base = "slirp4netns:cidr=10.77.8.0/24"
    visit(net, f"{base},allow_host_loopback=true", "10.77.8.2", loopback.port)
    assert loopback.peers.pop() == "127.0.0.1"
    script = f"import socket; socket.create_connection(('10.77.8.2', {loopback.port}), 2)"
    assert net("run", "--rm", "--network", base, "host", "python3", "-Ic", script).code == 1
    out = net.ok("run", "--rm", "--network", f"{base},allow_host_loopback=true", "host", "cat", "/etc/hosts")  # fmt: skip
    assert "10.77.8.2\thost.containers.internal" in out


ADDRESSES = "cat /sys/class/net/*/address; ip -o addr; cat /etc/resolv.conf /etc/hosts"


def test_pasta_options_inside(net: Engine, version: str) -> None:
    """What the container sees of them."""
    net_words = "pasta:-a,10.9.9.9,-n,24,-g,10.9.9.1"
    out = net.ok(
        "run", "--rm", "--network", f"{net_words},--ns-mac-addr,02:00:00:00:00:99,--dns-forward,10.9.9.53", "host", "sh", "-c",
        ADDRESSES,
    )  # fmt: skip
    assert "02:00:00:00:00:99" in out
    assert "nameserver 10.9.9.53" in out
    if host.has("ipv6") and [address for address in own_addresses() if ":" in address]:
        out = net.ok("run", "--rm", "--network", "pasta:--ipv6-only", "host", "sh", "-c", ADDRESSES)
        assert "scope global" in out
        assert [line for line in out.splitlines() if " inet " in line and " lo " not in line] == []


def test_pasta_outbound_address(net: Engine, version: str) -> None:
    network = "pasta:-a,10.9.9.9,-n,24,-g,10.9.9.1"
    for own in [address for address in own_addresses() if ":" not in address]:
        listener = Listener(own)
        try:
            for words, seen in (("", own), (",-o,127.0.0.5", "127.0.0.5")):
                visit(net, network + words, own, listener.port)
                assert listener.peers.pop() == seen
        finally:
            listener.close()


def test_pasta_ports_by_its_own_options(net: Engine, version: str) -> None:
    """-t and -u, which publish, and -U for the other direction; -T is in test_network_proofs.py."""
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    serve(net, "t", "--network", f"pasta:-t,127.0.0.1/{tcp}", port=tcp)
    assert eventually(lambda: answers(tcp))
    serve(net, "u", "--network", f"pasta:-u,127.0.0.1/{udp}", port=udp)
    assert ask("127.0.0.1", udp).endswith(" ping")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        port = server.getsockname()[1]
        script = (
            "import socket\n"
            "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(10)\n"
            f"u.connect(('127.0.0.1', {port})); u.send(b'hi'); print(u.recv(9))\n"
        )

        def answer() -> None:
            data, peer = server.recvfrom(64)
            server.sendto(data + b"!", peer)

        thread = threading.Thread(target=answer)
        thread.start()
        out = net.ok("run", "--rm", "--network", f"pasta:-U,{port}", "host", "python3", "-Ic", script)  # fmt: skip
        thread.join()
        assert out == "b'hi!'"


def test_pasta_options_of_the_newer_version(net: Engine, version: str, loopback: Listener) -> None:
    """--map-host-loopback and --map-guest-addr work where there are; where not, pasta's refusal is told in one line."""
    words = "pasta:--map-host-loopback,169.254.9.8,--map-guest-addr,169.254.9.7"
    result = net("run", "--rm", "--network", words, "host", "cat", "/etc/hosts")
    if "unrecognized option" in result.err:
        assert version == "installed"
        assert len(result.err.splitlines()) == 1
        return
    assert "169.254.9.7\thost.containers.internal" in result.out
    visit(net, words, "169.254.9.8", loopback.port)
    assert loopback.peers == ["127.0.0.1"]
    for own in [address for address in own_addresses() if ":" not in address]:
        listener = Listener(own)
        try:
            visit(net, words, "169.254.9.7", listener.port)
            assert len(listener.peers) == 1
        finally:
            listener.close()
