"""rootless.netrecords: definitions of networks, in Podman's form."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless import netrecords
from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.paths import Paths
from slirp.ipam import Subnet


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(
        netrecords, "host_subnets", lambda: [Subnet("0.0.0.0/0"), Subnet("192.0.2.0/24")]
    )
    return Paths(str(tmp_path / "data"), str(tmp_path / "run"))


def _create(paths: Paths, name: str = "", **wanted: object) -> dict[str, object]:
    wish = netrecords.Wish(name)
    for key, value in wanted.items():
        setattr(wish, key, value)
    return netrecords.create(paths, None, wish)


def test_default_network_needs_no_file(paths: Paths) -> None:
    assert netrecords.names(paths, None) == ["podman"]
    found = netrecords.read(paths, None, "podman")
    assert found["subnets"] == [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}]
    assert netrecords.read(paths, None, "default")["id"] == found["id"]
    with pytest.raises(Conflict, match="cannot be removed"):
        netrecords.remove(paths, None, found)


def test_create_chooses_what_is_left_open(paths: Paths) -> None:
    first, second = _create(paths), _create(paths, "web")
    assert (first["name"], first["network_interface"]) == ("podman1", "podman1")
    assert (second["name"], second["network_interface"]) == ("web", "podman2")
    assert first["subnets"] == [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]
    assert second["subnets"] == [{"subnet": "10.89.1.0/24", "gateway": "10.89.1.1"}]
    assert netrecords.read(paths, None, str(second["id"])[:12]) == second
    netrecords.remove(paths, None, second)
    with pytest.raises(
        NotFound, match="unable to find network with name or ID web: network not found"
    ):
        netrecords.read(paths, None, "web")


def test_routes_of_the_host(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host reaches is left alone; a VPN's halves of everything are no networks."""
    routes = ["0.0.0.0/1", "128.0.0.0/1", "2000::/3", "10.89.0.0/23"]
    monkeypatch.setattr(netrecords, "host_subnets", lambda: [Subnet(one) for one in routes])
    assert _create(paths, "n", ipv6=True)["subnets"][0] == {  # type: ignore[index]
        "subnet": "10.89.2.0/24",
        "gateway": "10.89.2.1",
    }
    with pytest.raises(Conflict, match="subnet 10.89.1.0/24 is already used on the host"):
        _create(paths, "m", subnets=["10.89.1.0/24"])
    routes.append("10.0.0.0/8")
    with pytest.raises(Conflict, match="could not find free subnet") as raised:
        _create(paths, "m")
    assert "--subnet" in raised.value.hint


def test_subnet_gateway_and_range(paths: Paths) -> None:
    made = _create(
        paths,
        "n",
        subnets=["10.77.0.9/24", "fd77::/64"],
        gateways=["10.77.0.254"],
        ranges=["10.77.0.128/25"],
    )
    assert made["subnets"] == [
        {
            "subnet": "10.77.0.0/24",
            "gateway": "10.77.0.254",
            "lease_range": {"start_ip": "10.77.0.129", "end_ip": "10.77.0.254"},
        },
        {"subnet": "fd77::/64", "gateway": "fd77::1"},
    ]
    assert made["ipv6_enabled"] is True


def test_ipv6_gets_a_unique_local_subnet(paths: Paths) -> None:
    subnets = _create(paths, "n", ipv6=True)["subnets"]
    assert isinstance(subnets, list)
    assert subnets[0]["subnet"] == "10.89.0.0/24"
    assert subnets[1]["subnet"].startswith("fd")


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        ({"name": "podman"}, Conflict, "network name podman already used: network already exists"),
        ({"name": "host"}, Usage, "conflicts with a valid network mode"),
        ({"name": "../x"}, Usage, "names must match"),
        ({"name": "a/b"}, Usage, "names must match"),
        ({"driver": "macvlan"}, RootlessError, "needs a device of the host"),
        ({"driver": "ipvlan"}, RootlessError, "needs a device of the host"),
        ({"driver": "x"}, Usage, "unsupported driver x"),
        ({"ipam_driver": "dhcp"}, RootlessError, "DHCP"),
        ({"subnets": ["10.88.1.0/24"]}, Conflict, "already used by network podman"),
        ({"subnets": ["192.0.2.128/25"]}, Conflict, "already used on the host"),
        ({"subnets": ["nonsense"]}, Usage, "invalid CIDR address: nonsense"),
        (
            {"subnets": ["10.7.0.0/24"], "gateways": ["10.8.0.1"]},
            Usage,
            "gateway 10.8.0.1 not in subnet 10.7.0.0/24",
        ),
        ({"gateways": ["10.8.0.1"]}, Usage, "cannot set gateway or range without subnet"),
        ({"subnets": ["10.7.0.0/24"], "ranges": ["10.8.0.0/25"]}, Usage, "not in subnet"),
        ({"options": {"colour": "red"}}, Usage, "unsupported bridge network option colour"),
        ({"options": {"mtu": "x"}}, Usage, "parsing mtu option"),
        ({"options": {"vlan": "5000"}}, Usage, "vlan ID 5000 must be between 0 and 4094"),
        ({"options": {"isolate": "perhaps"}}, Usage, "isolate option"),
        ({"interface": "much-too-long-a-name"}, Usage, "not an interface name"),
        ({"interface": "podman0"}, Conflict, "already in use"),
        ({"routes": ["10.0.0.0/8"]}, Usage, "invalid route"),
        ({"routes": ["10.0.0.0/8,fd00::1"]}, Usage, "invalid route gateway"),
        ({"dns": ["example.org"]}, Usage, "not an IP address"),
    ],
)
def test_refused(
    paths: Paths, wanted: dict[str, object], kind: type[RootlessError], message: str
) -> None:
    name = str(wanted.pop("name", "n"))
    with pytest.raises(kind) as caught:
        _create(paths, name, **wanted)
    assert message in caught.value.message


def test_ignore_gives_the_network_that_exists(paths: Paths) -> None:
    made = _create(paths, "n")
    assert _create(paths, "n", ignore=True) == made


def test_docker_option_names(paths: Paths) -> None:
    made = _create(
        paths,
        "n",
        options={"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.name": "br7"},
    )
    assert made["options"] == {"mtu": "1400"}
    assert made["network_interface"] == "br7"


def test_ids_are_not_confused_with_names(paths: Paths) -> None:
    made = _create(paths, "abc")
    assert netrecords.read(paths, None, "abc") == made
    with pytest.raises(NotFound):
        netrecords.read(paths, None, "../../etc/passwd")
