"""slirp.ipam: subnets and the next free address, checked against the standard library's arithmetic."""

from __future__ import annotations

import ipaddress

import pytest

from slirp import ipam
from slirp.ipam import Subnet


@pytest.mark.parametrize(
    "text", ["10.89.0.0/24", "10.88.0.0/16", "192.0.2.128/25", "fd00:1::/64", "0.0.0.0/0", "::/0"]
)
def test_subnet_agrees_with_ipaddress(text: str) -> None:
    ours, theirs = Subnet(text), ipaddress.ip_network(text)
    assert str(ours) == str(theirs)
    assert ipam.text(ours.last, ours.version) == str(theirs.broadcast_address)
    assert ours.address(5) == str(theirs[5])
    assert str(theirs[7]) in ours


def test_host_bits_are_cut() -> None:
    assert str(Subnet("10.89.0.77/24")) == "10.89.0.0/24"
    with pytest.raises(ValueError, match="host bits"):
        Subnet("10.89.0.77/24", strict=True)


@pytest.mark.parametrize(
    "text", ["10.0.0.0", "10.0.0/8", "10.0.0.0/33", "x/8", "::/129", "1.2.3.4/-1"]
)
def test_no_subnet(text: str) -> None:
    with pytest.raises(ValueError, match="invalid CIDR address"):
        Subnet(text)


def test_overlap() -> None:
    assert Subnet("10.0.0.0/8").overlaps(Subnet("10.89.0.0/24"))
    assert not Subnet("10.0.0.0/24").overlaps(Subnet("10.0.1.0/24"))
    assert not Subnet("0.0.0.0/0").overlaps(Subnet("::/0"))


def test_addresses_go_round() -> None:
    subnet = Subnet("10.0.0.0/29")
    taken = {"10.0.0.1"}
    given = []
    last = ""
    for _ in range(5):
        last = ipam.allocate(subnet, taken, last)
        taken.add(last)
        given.append(last)
    assert given == [f"10.0.0.{n}" for n in (2, 3, 4, 5, 6)]
    with pytest.raises(ValueError, match="no free address"):
        ipam.allocate(subnet, taken, last)
    taken.remove("10.0.0.3")
    assert ipam.allocate(subnet, taken, last) == "10.0.0.3"


def test_a_freed_address_is_not_the_next_one() -> None:
    subnet = Subnet("10.0.0.0/24")
    assert ipam.allocate(subnet, {"10.0.0.1"}, "10.0.0.2") == "10.0.0.3"


def test_range() -> None:
    subnet = Subnet("10.0.0.0/24")
    assert ipam.allocate(subnet, set(), "", "10.0.0.100", "10.0.0.101") == "10.0.0.100"
    assert ipam.allocate(subnet, {"10.0.0.100"}, "", "10.0.0.100", "10.0.0.101") == "10.0.0.101"
    with pytest.raises(ValueError, match="no free"):
        ipam.allocate(subnet, {"10.0.0.100", "10.0.0.101"}, "", "10.0.0.100", "10.0.0.101")


def test_free_subnet_jumps_over_what_is_used() -> None:
    base = Subnet("10.89.0.0/16")
    assert str(ipam.free_subnet(base, 24, [])) == "10.89.0.0/24"
    used = [Subnet("10.89.0.0/23"), Subnet("10.89.2.128/25"), Subnet("fd00::/8")]
    assert str(ipam.free_subnet(base, 24, used)) == "10.89.3.0/24"
    assert ipam.free_subnet(base, 24, [Subnet("10.0.0.0/8")]) is None
