"""What is told of network options that cannot be: Podman's words where it has some, one line each, and nothing is left."""

from __future__ import annotations

import pytest

from tests.support import host
from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns")

JOINED = "invalid config provided: cannot set extra host entries when the container is joined to another containers network"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--network none --ip 10.1.1.1", "--ip can only be set when the network mode is bridge: invalid argument"),
        ("--network host --ip6 fd00::9", "--ip6 can only be set when the network mode is bridge: invalid argument"),
        ("--network pasta --mac-address 92:d0:c6:0a:29:33", "--mac-address can only be set when the network mode is bridge"),
        ("--network container:x --network-alias y", "--network-alias can only be set when the network mode is bridge"),
        ("--network n --ip fd00::1", '"fd00::1" is not an IPv4 address'),
        ("--network n --ip6 10.1.1.1", '"10.1.1.1" is not an IPv6 address'),
        ("--ip 10.1.1.1", "networks and static ip/mac address can only be used with Bridge mode networking"),
        ("--network container:x --add-host a:192.0.2.1", JOINED),
        ("--network container:x --hosts-file /etc/hosts", "/etc/hosts is shared with the container whose network is joined"),
        ("--network container:x --dns 192.0.2.1", "conflicting options: dns and the network mode: container"),
        ("--network none --dns-search a", "conflicting options: dns-search and the network mode: none"),
        ("--dns none --dns-search a", "UseImageResolvConf and DNSSearch are mutually exclusive options"),
        ("--dns none --dns-option a", "UseImageResolvConf and DNSOption are mutually exclusive options"),
        ("--dns none --dns 192.0.2.1", "none is not allowed to be specified with other DNS ip addresses"),
        ("--network bridge:ip=foo", 'invalid option for network default: invalid ip address "foo"'),
        ("--network n:mac=foo", "invalid option for network n: address foo: invalid MAC address"),
        ("--network n:alias=", "invalid option for network n: alias cannot be empty"),
        ("--network n:interface_name=sixteen-letters-", 'interface_name "sixteen-letters-": no name of an interface'),
        ("--network n:host_interface_name=a/b", 'host_interface_name "a/b": no name of an interface'),
        ("--network n:colour=red", 'unknown bridge network option "colour=red"'),
        ("--network n --network host", "can only set extra network names, selected mode host conflicts with bridge"),
        ("--network host --network n", "cannot set multiple networks without bridge network mode, selected mode host"),
        ("--network none:a", 'network mode "none" takes no options'),
        ("--network nobody", "unable to find network with name or ID nobody: network not found"),
        ("--network container:nobody", 'no container with name or ID "nobody" found'),
        ("-p 192.0.2.77:8080:80", "192.0.2.77 is no address of this host"),
        ("-p 8080:80 -p 8080:81", "conflicting port mappings for host port 8080 (protocol tcp)"),
        ("-p 8080-8082:80-81", "host and container port ranges have different lengths"),
        ("--no-hosts --add-host a:192.0.2.1", "--no-hosts and --add-host cannot be set together"),
    ],
)  # fmt: skip
def test_run(rootless: Engine, options: str, message: str) -> None:
    if "-p" in options.split():
        host.require("pasta")
    said = rootless.fails("run", "--rm", *options.split(), "host", "true")
    assert message in said
    assert len(said.splitlines()) == 1
    assert rootless.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--gateway 10.150.0.1", "cannot set gateway or range without subnet"),
        ("--subnet 10.150.0.0/24 --gateway 10.151.0.1", "gateway 10.151.0.1 not in subnet 10.150.0.0/24"),
        ("--subnet 10.150.0.0/24 --ip-range 10.151.0.0/26", "ip range 10.151.0.0/26 not in subnet 10.150.0.0/24"),
        ("--subnet 10.150.0.0/24 --subnet 10.150.0.0/25", "subnet 10.150.0.0/25 is already used by network"),
        ("--subnet 10.88.3.0/24", "subnet 10.88.3.0/24 is already used by network podman"),
        ("-o vlan=9999", "vlan ID 9999 must be between 0 and 4094"),
        ("-o mtu=9", "mtu 9 is out of range"),
        ("-o isolate=maybe", 'isolate option: "maybe" is not true, false or strict'),
        ("-o metric=-1", 'parsing metric option: strconv.ParseUint: parsing "-1": invalid syntax'),
        ("-o no_default_route=maybe", 'no_default_route option: strconv.ParseBool: parsing "maybe": invalid syntax'),
        ("-o colour=red", "unsupported bridge network option colour"),
        ("--route 10.0.0.0/8", "invalid route: 10.0.0.0/8"),
        ("--route 10.0.0.0/8,fd00::1", "invalid route gateway fd00::1"),
        ("--dns 1.1.1", "invalid DNS server 1.1.1: not an IP address"),
        ("--dns 192.0.2.1 --disable-dns", "cannot set both --dns and --disable-dns"),
        ("--ipam-driver dhcp", "IPAM driver dhcp needs a DHCP server"),
        ("--interface-name sixteen-letters-", "bridge name sixteen-letters- invalid: not an interface name"),
        ("-d macvlan", "network driver macvlan needs a device of the host, which an unprivileged user cannot have"),
        ("-d ipvlan -o parent=eth0", "network driver ipvlan needs a device of the host"),
        ("-d overlay", "unsupported driver overlay: invalid argument"),
    ],
)  # fmt: skip
def test_create(rootless: Engine, words: str, message: str) -> None:
    said = rootless.fails("network", "create", *words.split(), "bad")
    assert message in said
    assert rootless("network", "exists", "bad").code == 1


def test_dangling(net: Engine) -> None:
    """The default network is none that waits to be removed."""
    net.ok("network", "create", "a")
    net.ok("network", "create", "b")
    net.ok("create", "--network", "b", "host", "true")
    assert net.ok("network", "ls", "-q", "-f", "dangling=true") == "a"
    assert net.ok("network", "ls", "-q", "-f", "dangling=false").split() == ["b", "podman"]
    assert net.ok("network", "rm", "-f", "nobody") == ""


@pytest.mark.needs("subids", "tun", "nft")
def test_names_of_interfaces(net: Engine) -> None:
    """On both ends, also after a restart; a taken one is told by its name."""
    net.ok("network", "create", "--internal", "--interface-name", "br-a", "a")
    net.ok("run", "-d", "--name", "w", "--network", "a:interface_name=in0,host_interface_name=out0", "host", "sleep", "300")  # fmt: skip
    for _ in range(2):
        assert "in0" in net.ok("exec", "w", "ls", "/sys/class/net").split()
        assert "out0@" in net.ok("unshare", "--rootless-netns", "ip", "-o", "link", "show", "master", "br-a")  # fmt: skip
        net.ok("restart", "-t0", "w")
    for words, taken in (
        ("host_interface_name=out0", "out0"),
        ("host_interface_name=br-a", "br-a"),
        ("interface_name=lo", "lo"),
    ):
        message = net.fails("run", "--rm", "--network", f"a:{words}", "host", "true")
        assert f"interface {taken} " in message
    # Nor is that of the way out taken away.
    net.ok("run", "-d", "--name", "o", "--network", "podman", "host", "sleep", "300")
    way_out = net.ok(
        "unshare", "--rootless-netns", "sh", "-c", "ip route show default | cut -d' ' -f5"
    )
    for _ in range(2 if way_out else 0):
        words = f"a:host_interface_name={way_out.split()[0]}"
        assert "exists already" in net.fails("run", "--rm", "--network", words, "host", "true")
    assert "in0" in net.ok("exec", "w", "ls", "/sys/class/net").split()
