"""slirp.aardvark: what aardvark-dns is told, and which version of it is preferred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slirp import aardvark
from slirp.topology import UPSTREAM, Endpoint, Topology


def _network(name: str, subnet: str, **more: Any) -> dict[str, Any]:
    gateway = subnet.partition("/")[0].rpartition(".")[0] + ".1"
    return {
        "name": name,
        "id": name * 8,
        "network_interface": f"if{name}",
        "subnets": [{"subnet": subnet, "gateway": gateway}],
        "dns_enabled": True,
        **more,
    }


def _joined(
    topology: Topology, name: str, *networks: dict[str, Any], aliases: tuple[str, ...] = ()
) -> Endpoint:
    endpoint = topology.endpoints[name] = Endpoint(name, [name.upper(), name[:3]], 0)
    for network in networks:
        topology.join(endpoint, {"network": network, "aliases": list(aliases)})
    endpoint.attached = True
    return endpoint


def test_a_file_for_each_network_with_its_members() -> None:
    topology = Topology()
    outer = _network("a", "10.1.0.0/24")
    inner = _network("b", "10.2.0.0/24", internal=True)
    _joined(topology, "first", outer, aliases=("web", "w e b", "x,y", "two\nlines", ""))
    _joined(topology, "second", outer, inner)
    waiting = _joined(topology, "third", outer)
    waiting.attached = False
    found = aardvark.documents(
        topology, ["10.1.0.1", "10.2.0.1"], lambda one: f"127.0.0.{one.name}"
    )
    assert found == {
        "n.ifa": (
            "10.1.0.1\n"
            "first 10.1.0.2  first,fir,web 127.0.0.first\n"
            "second 10.1.0.3  second,sec 127.0.0.second\n"
        ),
        "n.ifb%int": "10.2.0.1\nsecond 10.2.0.2  second,sec 127.0.0.second\n",
    }


def test_networks_without_names_or_bridges_have_no_file() -> None:
    topology = Topology()
    _joined(topology, "one", _network("a", "10.1.0.0/24", dns_enabled=False))
    _joined(topology, "two", _network("b", "10.2.0.0/24"))
    assert aardvark.documents(topology, ["10.1.0.1"], lambda _: "127.0.0.1") == {}


def test_whom_an_endpoint_asks() -> None:
    topology = Topology()
    inner = _network("b", "10.2.0.0/24", internal=True)
    own = _network("c", "10.3.0.0/24", network_dns_servers=["10.3.0.53"])
    assert topology.asked_for(_joined(topology, "inside", inner)) == ()
    both = _joined(topology, "both", inner, _network("a", "10.1.0.0/24"), own)
    assert topology.asked_for(both) == (UPSTREAM, "10.3.0.53")
    both.servers = ["192.0.2.53"]
    assert topology.asked_for(both) == ("192.0.2.53",)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("aardvark-dns 1.14.0", True),
        ("aardvark-dns 1.13.0", True),
        ("aardvark-dns 2.0.0-dev", True),
        ("aardvark-dns 1.12.2", False),
        ("aardvark-dns 1.4.0", False),
        ("something else", False),
        ("", False),
    ],
)
def test_versions(tmp_path: Path, said: str, expected: bool) -> None:
    program = tmp_path / "aardvark-dns"
    program.write_text(f'#!/bin/sh\necho "{said}"\n')
    program.chmod(0o755)
    assert aardvark.is_current(str(program), None) is expected
