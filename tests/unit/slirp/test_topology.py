"""slirp.topology: who gets which address, and what is said and ruled of it."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import Conflict, RootlessError
from slirp.netlink import random_mac
from slirp.topology import Endpoint, Topology

Document = dict[str, Any]


def _network(name: str, number: int, **more: object) -> Document:
    subnet = {"subnet": f"10.{number}.0.0/29", "gateway": f"10.{number}.0.1"}
    return {
        "name": name,
        "id": name * 8,
        "network_interface": f"br{number}",
        "subnets": [subnet],
        "dns_enabled": True,
        "internal": False,
        **more,
    }


def _join(topology: Topology, name: str, *wishes: Document, attached: bool = True) -> Endpoint:
    endpoint = Endpoint(name, [name, name[:12]], 3)
    topology.endpoints[name] = endpoint
    for wish in wishes:
        topology.join(endpoint, wish)
    endpoint.attached = attached
    return endpoint


def _addresses(endpoint: Endpoint) -> list[str]:
    return [one for member in endpoint.members.values() for one, _, _ in member.addresses]


def test_addresses_and_interfaces() -> None:
    topology = Topology()
    a, b = _network("a", 1), _network("b", 2)
    first = _join(topology, "web", {"network": a}, {"network": b})
    second = _join(topology, "db", {"network": a, "interface": "net7", "mac": "02:00:00:00:00:01"})
    assert _addresses(first) == ["10.1.0.2", "10.2.0.2"]
    assert _addresses(second) == ["10.1.0.3"]
    assert [member.interface for member in first.members.values()] == ["eth0", "eth1"]
    assert second.members["a"].interface == "net7"
    described = topology.describe(second)["networks"]["a"]
    assert described["mac"] == "02:00:00:00:00:01"
    assert described["dns"] == ["10.1.0.1"]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            {"ip": "10.1.0.2"},
            "requested ip address 10.1.0.2 is already allocated to container ID web",
        ),
        ({"ip": "10.1.0.1"}, "is the gateway of network a"),
        ({"ip": "192.0.2.1"}, "requested static ip 192.0.2.1 not in any subnet on network a"),
        ({"ip6": "fd00::1"}, "requested static ip fd00::1 not in any subnet on network a"),
    ],
)
def test_static_address_refused(wish: Document, message: str) -> None:
    topology = Topology()
    _join(topology, "web", {"network": _network("a", 1)})
    with pytest.raises(Conflict) as caught:
        _join(topology, "db", {"network": _network("a", 1), **wish})
    assert message in caught.value.message


def test_twice_on_one_network_or_interface() -> None:
    topology = Topology()
    one = _join(topology, "web", {"network": _network("a", 1)})
    with pytest.raises(Conflict, match="already connected"):
        topology.join(one, {"network": _network("a", 1)})
    with pytest.raises(Conflict, match="interface eth0 is used"):
        topology.join(one, {"network": _network("b", 2), "interface": "eth0"})


def test_restart_keeps_its_address_where_it_is_still_free() -> None:
    topology = Topology()
    before = _join(topology, "web", {"network": _network("a", 1)})
    del topology.endpoints["web"]
    again = Endpoint("web", [], 4)
    topology.endpoints["web"] = again
    topology.join(again, {"network": _network("a", 1)}, before)
    assert _addresses(again) == _addresses(before)
    del topology.endpoints["web"]
    _join(topology, "thief", {"network": _network("a", 1), "ip": "10.1.0.2"})
    topology.endpoints["web"] = third = Endpoint("web", [], 5)
    topology.join(third, {"network": _network("a", 1)}, before)
    assert _addresses(third) != _addresses(before)


def test_full_subnet() -> None:
    topology = Topology()
    for number in range(5):
        _join(topology, f"c{number}", {"network": _network("a", 1)})
    with pytest.raises(Conflict, match="no free address left"):
        _join(topology, "c5", {"network": _network("a", 1)})


def test_names_are_those_of_all_networks_of_the_asker() -> None:
    topology = Topology()
    topology.upstream = ["169.254.1.1"]
    a, b = _network("a", 1), _network("b", 2, internal=True)
    _join(topology, "web", {"network": a, "aliases": ["front"]})
    _join(topology, "db", {"network": b})
    _join(topology, "both", {"network": a}, {"network": b})

    def known(asker: str, gateway: str) -> set[str]:
        return {name for names in topology.names_for(asker, gateway) for name in names.addresses}

    assert known("10.1.0.2", "10.1.0.1") == {"web", "front", "both"}
    assert known("10.1.0.3", "10.1.0.1") == {"web", "front", "both", "db"}
    assert known("10.2.0.2", "10.2.0.1") == {"db", "both"}
    assert [names.upstream for names in topology.names_for("10.2.0.2", "10.2.0.1")] == [[]]
    assert [names.upstream for names in topology.names_for("10.1.0.2", "10.1.0.1")] == [
        ["169.254.1.1"]
    ]


def test_own_servers_do_not_open_an_internal_network() -> None:
    topology = Topology()
    one = _join(topology, "web", {"network": _network("b", 2, internal=True)})
    one.servers = ["192.0.2.53"]
    assert [names.upstream for names in topology.names_for("10.2.0.2", "10.2.0.1")] == [[]]
    assert not topology.leads_out(one)


def test_unused_networks_are_taken_out_once() -> None:
    topology = Topology()
    _join(topology, "web", {"network": _network("a", 1)})
    assert topology.unused() == []
    topology.endpoints.clear()
    assert [network["name"] for network in topology.unused()] == ["a"]
    assert topology.unused() == []


def test_nothing_reserved() -> None:
    with pytest.raises(RootlessError, match="nothing is reserved for web"):
        Topology().endpoint("web")


def test_random_mac_is_local_and_of_one_station() -> None:
    for _ in range(50):
        assert int(random_mac()[:2], 16) & 3 == 2
