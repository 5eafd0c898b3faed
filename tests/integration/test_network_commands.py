"""`rootless network`: what connect, disconnect, reload, rm and create do to containers, option by option."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.traffic import (
    CLIENT,
    digest,
    eventually,
    exchange,
    free_port,
    refuses,
    router,
    serve,
)

pytestmark = pytest.mark.needs("userns", "subids", "tun", "nft")

SLEEP = ("host", "sleep", "300")


def settings(net: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = net.inspect(name)["NetworkSettings"]["Networks"]
    return found


def test_connect_with_addresses_and_names(net: Engine) -> None:
    """At once where it runs; at the next start where it does not."""
    net.ok("network", "create", "--internal", "a")
    net.ok(
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.199.4.0/24",
        "--subnet",
        "fd99:4::/64",
        "b",
    )
    for name in ("running", "stopped"):
        net.ok("create", "--name", name, "--network", "a", *SLEEP)
    net.ok("start", "running")
    for number, name in ((7, "running"), (8, "stopped")):
        net.ok(
            "network", "connect", "--ip", f"10.199.4.{number}", "--ip6", f"fd99:4::{number}", "--mac-address",
            f"92:D0:C6:0A:29:0{number}", "--alias", f"one-{name},two-{name}", "b", name,
        )  # fmt: skip
    net.ok("start", "stopped")
    for number, name in ((7, "running"), (8, "stopped")):
        found = settings(net, name)["b"]
        assert (found["IPAddress"], found["GlobalIPv6Address"]) == (
            f"10.199.4.{number}",
            f"fd99:4::{number}",
        )
        assert found["MacAddress"] == f"92:d0:c6:0a:29:0{number}"
        assert {f"one-{name}", f"two-{name}"} <= set(found["Aliases"])
        inside = net.ok(
            "exec",
            name,
            "sh",
            "-c",
            "ip -o addr show eth1; cat /sys/class/net/eth1/address /etc/hosts",
        )
        for text in (
            f"10.199.4.{number}/24",
            f"fd99:4::{number}/64",
            f"92:d0:c6:0a:29:0{number}",
            f"10.199.4.{number}\t",
        ):
            assert text in inside
    assert "10.199.4.8" in net.ok("exec", "running", "getent", "ahostsv4", "two-stopped")
    message = net.fails("network", "connect", "--ip", "10.199.4.7", "b", "stopped")
    assert "network is already connected" in message
    net.ok("run", "-d", "--name", "third", "--network", "a", *SLEEP)
    message = net.fails("network", "connect", "--ip", "10.199.4.7", "b", "third")
    assert "requested ip address 10.199.4.7 is already allocated" in message
    assert sorted(settings(net, "third")) == ["a"]
    for wrong, words in (
        ("--ip", "10.1.1.1"),
        ("--mac-address", "nonsense"),
        ("--ip6", "10.1.1.1"),
    ):
        assert net("network", "connect", wrong, words, "b", "third").code == 125
        assert sorted(settings(net, "third")) == ["a"]


def test_disconnect(net: Engine) -> None:
    """Of a running and of a stopped container; --force is for what is not there."""
    net.ok("network", "create", "--internal", "a")
    net.ok("run", "-d", "--name", "c", "--network", "a", *SLEEP)
    net.ok("network", "disconnect", "a", "c")
    assert net.ok("exec", "c", "ls", "/sys/class/net") == "lo"
    assert "network is not connected" in net.fails("network", "disconnect", "a", "c")
    net.ok("network", "connect", "a", "c")
    assert "eth0" in net.ok("exec", "c", "ls", "/sys/class/net").split()
    net.ok("stop", "-t0", "c")
    net.ok("network", "disconnect", "a", "c")
    net.ok("start", "c")
    assert net.ok("exec", "c", "ls", "/sys/class/net") == "lo"
    for words in (("nobody", "c"), ("a", "nobody")):
        assert net("network", "disconnect", *words).code == 125
        net.ok("network", "disconnect", "-f", *words)


def test_several_networks_at_once(net: Engine) -> None:
    """Each with its own options, in the order given; --network-alias is for all of them."""
    for number in (1, 2, 3):
        net.ok("network", "create", "--internal", "--subnet", f"10.199.{number}.0/24", f"n{number}")
    out = net.ok(
        "run", "--rm", "--network", "n2:ip=10.199.2.9,alias=x", "--network", "n1,n3", "--network-alias", "y", "host", "ip", "-4",
        "-o", "addr",
    )  # fmt: skip
    found = [(line.split()[1], line.split()[3]) for line in out.splitlines()[1:]]
    assert [name for name, _ in found] == ["eth0", "eth1", "eth2"]
    assert found[0][1] == "10.199.2.9/24"
    assert [address.split(".")[2] for _, address in found] == ["2", "1", "3"]
    net.ok(
        "run",
        "-d",
        "--name",
        "w",
        "--network",
        "n2:ip=10.199.2.9,alias=x",
        "--network",
        "n1",
        "--network-alias",
        "y",
        *SLEEP,
    )
    for network, names in (("n1", "wy"), ("n2", "wxy")):
        for name in names:
            out = net.ok("run", "--rm", "--network", network, "host", "getent", "hosts", name)
            assert out.split()[0].startswith(f"10.199.{network[1]}.")


def test_reload_takes_what_is_named(net: Engine) -> None:
    net.ok("network", "create", "--internal", "a")
    first = serve(net, "first", "--network", "a")
    last = serve(net, "last", "--network", "a")
    assert net.ok("network", "reload", "--latest") == last
    assert sorted(net.ok("network", "reload", "first", "last").split()) == sorted([first, last])
    out = net.ok("exec", "first", "python3", "-Ic", CLIENT, "last", "7000")
    assert out.split()[0] == digest(b"hello")
    net.ok("stop", "-t0", "last")
    assert "is not running" in net.fails("network", "reload", "last")
    assert net.ok("network", "reload", "--all") == first


def test_rm_with_its_containers(net: Engine) -> None:
    for name in ("a", "b"):
        net.ok("network", "create", "--internal", name)
    net.ok("run", "-d", "--name", "c", "--network", "a", *SLEEP)
    assert "network is being used" in net.fails("network", "rm", "a", code=2)
    assert net.fails("network", "rm", "--time", "1", "a").startswith(
        "Error: --force option must be specified"
    )
    assert net.ok("network", "rm", "-f", "-t", "0", "a", "b").split() == ["a", "b"]
    assert net.ok("ps", "-aq") == ""
    assert eventually(lambda: not router(net))


def test_network_without_addresses(net: Engine) -> None:
    """--ipam-driver none: an interface, and whoever is in there gives it what it wants."""
    net.ok("network", "create", "--ipam-driver", "none", "bare")
    assert net.inspect("bare", "network")["subnets"] == []
    out = net.ok("run", "--rm", "--network", "bare", "host", "ip", "-o", "addr", "show", "eth0")
    assert " inet " not in out
    assert (
        "eth0" in net.ok("run", "--rm", "--network", "bare", "host", "ls", "/sys/class/net").split()
    )


def test_rootless_netns_where_nothing_runs(net: Engine) -> None:
    """It is made for the command and goes with it; the command's status is the answer."""
    assert net.ok("unshare", "--rootless-netns", "cat", "/proc/net/dev").count(":") == 1
    assert net("unshare", "--rootless-netns", "sh", "-c", "exit 7").code == 7
    assert not router(net)


def test_ports_of_a_container_on_internal_networks(net: Engine) -> None:
    """They wait, which is said, until there is a network that leads out, and while there is one."""
    port = free_port()
    net.ok("network", "create", "--internal", "a")
    net.ok("network", "create", "b")
    result = net(
        "run", "-d", "--name", "w", "--network", "a", "-p", f"127.0.0.1:{port}:7000", *SLEEP
    )
    assert (
        "published ports are not reachable: every network of the container is internal"
        in result.err
    )
    assert result.code == 0
    net.ok("rm", "-f", "-t0", "w")
    serve(net, "w", "--network", "a", "-p", f"127.0.0.1:{port}:7000")
    assert refuses("127.0.0.1", port)

    def answers() -> bool:
        try:
            return exchange("127.0.0.1", port)[1:2] == ["5"]
        except OSError:
            return False

    net.ok("network", "connect", "b", "w")
    assert eventually(answers)
    net.ok("network", "disconnect", "b", "w")
    assert eventually(lambda: refuses("127.0.0.1", port))


@pytest.mark.needs("ipv6")
def test_network_of_ipv6_alone(net: Engine) -> None:
    """Names, and a published port by which even IPv4 leads in."""
    port = free_port()
    net.ok("network", "create", "--ipv6", "--subnet", "fd99:7::/64", "six")
    assert [one["subnet"] for one in net.inspect("six", "network")["subnets"]] == ["fd99:7::/64"]
    serve(net, "w", "--network", "six", "-p", f"{port}:7000")
    out = net.ok("run", "--rm", "--network", "six", "host", "python3", "-Ic", CLIENT, "w", "7000")
    assert out.split()[0] == digest(b"hello")
    assert exchange("::1", port)[1] == "5"
    assert exchange("127.0.0.1", port)[1] == "5"
