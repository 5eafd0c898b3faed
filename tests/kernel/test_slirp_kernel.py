"""slirp against the kernel: netlink, helpers that end with their owner, ports that a relay carries."""

from __future__ import annotations

import os
import select
import signal
import socket
from pathlib import Path

import pytest

from rootless.errors import SetupError
from rootless.linux.sched import CLONE_NEWNET, setns, unshare
from slirp import divert, firewall, pasta, process, relay, slirp4netns
from slirp.netlink import Netlink
from slirp.ports import PortMapping
from tests.support import host
from tests.support.namespaces import Namespaces

pytestmark = pytest.mark.needs("userns")


@pytest.mark.needs("nft")
def test_rules_are_taken_and_replaced(space: Namespaces) -> None:
    zones = [
        firewall.Zone("a", ["10.1.0.0/24", "fd01::/64"], False, "true"),
        firewall.Zone("b", ["10.2.0.0/24"], True, "strict"),
    ]

    def body() -> None:
        nft = firewall.find()
        for _ in range(2):
            firewall.apply(nft, firewall.ruleset(zones))
        firewall.apply(nft, firewall.ruleset([]))

    space.inside(body)


def _gone(pidfd: int, patience_s: float = 5) -> bool:
    return bool(select.select([pidfd], [], [], patience_s)[0])


@pytest.mark.needs("tun")
@pytest.mark.parametrize("driver", ["pasta", "slirp4netns"])
def test_helper_ends_with_its_owner(space: Namespaces, driver: str, tmp_path: Path) -> None:
    """The lifeline: SIGKILL to whoever holds its end is the helper's end as well, on every version of it."""
    host.require(driver)
    reads, writes = os.pipe()
    owner = os.fork()
    if not owner:
        try:
            if driver == "pasta":
                found = pasta.find()
                assert found is not None
                pending = pasta.start(found, pasta.settings(found).arguments, space.net, space.user)
            else:
                program = slirp4netns.find()
                assert program is not None
                settings = slirp4netns.parse([])
                pending = slirp4netns.start(
                    program, settings, (), space.net, space.user, str(tmp_path)
                )
            helper = pending.wait_ready()
            os.write(writes, b"%d" % helper.pid)
            os.close(writes)
            signal.pause()
        finally:
            os._exit(1)
    os.close(writes)
    text = os.read(reads, 64)
    os.close(reads)
    assert text, os.waitpid(owner, 0)
    pidfd = os.pidfd_open(int(text))
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    assert _gone(pidfd)
    os.close(pidfd)


@pytest.mark.needs("tun", "pasta")
def test_helpers_failure_is_told_in_its_words(space: Namespaces) -> None:
    found = pasta.find()
    assert found is not None
    with pytest.raises(SetupError, match="pasta failed with exit code 1: .*nonsense"):
        pasta.start(found, ["--nonsense"], space.net, space.user).wait_ready()


def test_missing_program_is_told() -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    pending = process.Pending("helper", ["/nonexistent/helper"], null, -1, lambda pid, words: False)
    with pytest.raises(SetupError, match="cannot start /nonexistent/helper"):
        pending.wait_ready()
    os.close(null)


def test_case_46_a_reused_pid_is_left_alone() -> None:
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    process.kill_recorded(pid, process.start_time(pid) + 1)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    process.kill_recorded(pid, process.start_time(pid))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_case_51_helper_from_a_folder_others_can_write_to(tmp_path: Path) -> None:
    program = tmp_path / "pasta"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    assert process.find_program("pasta", [str(tmp_path)]) != str(program)
    program.chmod(0o755)
    assert process.find_program("pasta", [str(tmp_path)]) == str(program)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_relay(space: Namespaces, protocol: str) -> None:
    """Outer sockets here, inner ones in there; half-closed connections keep their other half."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told, tell = os.pipe()

    def serve() -> None:
        with Netlink() as link:
            link.set_up(1)
        with socket.socket(socket.AF_INET, kind) as server:
            server.bind(("127.0.0.1", 7000))
            if protocol == "udp":
                os.write(tell, b"x")
                data, peer = server.recvfrom(64)
                server.sendto(b"got " + data, peer)
                return
            server.listen(8)
            os.write(tell, b"x")
            for _ in range(20):
                one, _ = server.accept()
                data = b""
                while chunk := one.recv(65536):
                    data += chunk
                one.sendall(b"got %d" % len(data))
                one.close()

    server = os.fork()
    if not server:
        try:
            space.inside(serve)
        finally:
            os._exit(0)
    assert os.read(told, 1) == b"x"
    inside = relay.Inside(["127.0.0.1"], space.net, space.user, is_container=True)
    helper = relay.start([PortMapping("127.0.0.1", port, 7000, 1, protocol)], inside)
    try:
        if protocol == "udp":
            with socket.socket(socket.AF_INET, kind) as client:
                client.settimeout(5)
                client.sendto(b"x", ("127.0.0.1", port))
                assert client.recv(64) == b"got x"
        else:
            for number in range(20):
                with socket.create_connection(("127.0.0.1", port), 5) as client:
                    client.sendall(bytes(number * 100_000))
                    client.shutdown(socket.SHUT_WR)
                    assert client.makefile().read() == f"got {number * 100_000}"
    finally:
        helper.stop()
        os.waitpid(server, 0)
        os.close(told)
        os.close(tell)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 1)


@pytest.mark.parametrize("why", ["no route", "nobody listens"])
def test_relay_resets_what_it_cannot_connect(space: Namespaces, why: str) -> None:
    """Also where connect(2) fails at once, as while a helper that was killed is started again."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = "192.0.2.9" if why == "no route" else "127.0.0.1"
    inside = relay.Inside([address], space.net, space.user, is_container=True)
    helper = relay.start([PortMapping("127.0.0.1", port, 7000, 1, "tcp")], inside)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as client,
            pytest.raises(ConnectionResetError),
        ):
            client.recv(1)
    finally:
        helper.stop()


def _new_netns() -> int:
    """A further network namespace of the user namespace that we are in."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    unshare(CLONE_NEWNET)
    fresh = os.open("/proc/self/ns/net", os.O_RDONLY)
    with Netlink() as link:
        link.set_up(1)
    setns(before, CLONE_NEWNET)
    os.close(before)
    return fresh


def _wire(netns: int, subnet: tuple[str, str], name: str) -> None:
    """A pair of interfaces, from here (.1) to there (.2), in both families."""
    with Netlink() as here:
        here.add_veth(name, 0, 1500, "eth0", netns, "02:00:00:00:00:07")
        ours = here.link(name)
        assert ours is not None
        for address, prefix in ((f"{subnet[0]}.1", 24), (f"{subnet[1]}::1", 64)):
            here.add_address(ours.index, address, prefix)
        here.set_up(ours.index)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    setns(netns, CLONE_NEWNET)
    with Netlink() as there:
        theirs = there.link("eth0")
        assert theirs is not None
        for address, prefix in ((f"{subnet[0]}.2", 24), (f"{subnet[1]}::2", 64)):
            there.add_address(theirs.index, address, prefix)
        there.set_up(theirs.index)
        there.add_route("0.0.0.0/0", gateway=f"{subnet[0]}.1", index=theirs.index)
        there.add_route("::/0", gateway=f"{subnet[1]}::1", index=theirs.index)
    setns(before, CLONE_NEWNET)
    os.close(before)


def _greet(ready: int) -> None:
    """Speaks first, and says what address it sees; TCP and UDP."""
    tcp = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("::", 7000))
    os.write(ready, b"x")
    while True:
        for one in select.select([tcp, udp], [], [])[0]:
            if one is udp:
                peer = udp.recvfrom(64)[1]
                udp.sendto(peer[0].encode(), peer)
            else:
                client, peer = tcp.accept()
                client.sendall(peer[0].encode())
                client.close()


def _greeting(address: str, kind: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as one:
        one.settimeout(5)
        one.connect((address, 8000))
        if kind == socket.SOCK_DGRAM:
            one.send(b"x")
        return one.recv(64).decode().removeprefix("::ffff:")


@pytest.mark.needs("nft", "ipv6")
@pytest.mark.parametrize("is_container", [True, False])
def test_case_42_relay_shows_a_strangers_address(space: Namespaces, is_container: bool) -> None:
    """With its sockets in the server's own namespace, and in one that is the server's way out."""

    def body() -> None:
        with Netlink() as link:
            link.set_up(1)
        stranger, middle, server = _new_netns(), _new_netns(), _new_netns()
        _wire(stranger, ("192.0.2", "2001:db8:1"), "outside")
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        setns(middle, CLONE_NEWNET)
        _wire(server, ("10.9.0", "fd09"), "bridge")
        with Netlink() as link:
            divert.prepare(link)
        firewall.apply(firewall.find(), firewall.ruleset([]))
        setns(server, CLONE_NEWNET)
        reads, ready = os.pipe()
        serving = os.fork()
        if not serving:
            _greet(ready)
        os.read(reads, 1)
        setns(here, CLONE_NEWNET)
        inside = relay.Inside(
            ["10.9.0.2", "fd09::2"],
            server if is_container else middle,
            -1,
            is_container=is_container,
        )
        helper = relay.start(
            [PortMapping("", 8000, 7000, 1, "tcp"), PortMapping("", 8000, 7000, 1, "udp")], inside
        )
        near = "10.9.0.2" if is_container else "10.9.0.1"
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            assert _greeting("127.0.0.1", kind) == near
        setns(stranger, CLONE_NEWNET)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            if kind == socket.SOCK_DGRAM and is_container:
                continue  # the kernel marks answers of TCP only
            assert _greeting("192.0.2.1", kind) == "192.0.2.2"
            assert _greeting("2001:db8:1::1", kind) == "2001:db8:1::2"
        helper.stop()
        os.kill(serving, signal.SIGKILL)

    space.inside(body)
