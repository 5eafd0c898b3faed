"""slirp.netlink against the kernel, and against pyroute2: a second implementation of rtnetlink(7).

VLANs are in tests/vm/guest/test_networks_vm.py, for kernels of test machines as a rule have none.
"""

from __future__ import annotations

import socket

import pyroute2
import pytest

from rootless import netrecords
from slirp import divert
from slirp.netlink import Netlink
from tests.support.namespaces import Namespaces

pytestmark = pytest.mark.needs("userns")


def test_bridge_addresses_routes_and_rules(space: Namespaces) -> None:
    def body() -> None:
        with Netlink() as link:
            lo = link.link("lo")
            assert lo is not None
            link.set_up(lo.index)
            assert link.link("nothing") is None
            link.add_bridge("br7", 1400)
            with pytest.raises(FileExistsError):
                link.add_bridge("br7", 1400)
            bridge = link.link("br7")
            assert bridge is not None
            assert bridge.mtu == 1400
            link.add_address(bridge.index, "10.7.0.1", 24)
            link.add_address(bridge.index, "fd07::1", 64)
            link.set_up(bridge.index)
            assert (bridge.index, "10.7.0.1", 24) in link.addresses()
            assert (bridge.index, "fd07::1", 64) in link.addresses()
            link.add_route("10.8.0.0/16", gateway="10.7.0.2", index=bridge.index, metric=7)
            divert.prepare(link)
            divert.prepare(link)
            with pytest.raises(FileExistsError):
                link.add_mark_rule(socket.AF_INET, divert.MARK, divert.MARK)
            link.delete_link(bridge.index)
            assert [one.name for one in link.links()] == ["lo"]

    space.inside(body)


def test_bridge_keeps_its_address(space: Namespaces) -> None:
    """Whatever is plugged in and out: names were not answered for seconds where a container had just ended."""

    def body() -> None:
        with Netlink() as link:
            link.add_bridge("br7", 1500)
            before = link.link("br7")
            assert before is not None
            link.set_up(before.index)
            below = Namespaces()
            for number in range(8):
                link.add_veth(
                    f"veth{number}",
                    before.index,
                    1500,
                    f"eth{number}",
                    below.net,
                    f"02:00:00:00:00:{number:02}",
                )
                now = link.link("br7")
                assert now is not None
                assert now.mac == before.mac
            below.close()

    space.inside(body)


def test_pyroute2_reads_what_we_wrote(space: Namespaces) -> None:
    """A second implementation of rtnetlink(7) confirms our messages."""

    def body() -> None:
        with Netlink() as link:
            link.set_up(1)
            link.add_bridge("br7", 1400)
            bridge = link.link("br7")
            assert bridge is not None
            link.add_address(bridge.index, "10.7.0.1", 24)
            link.add_address(bridge.index, "fd07::1", 64)
            link.set_up(bridge.index)
            link.add_route("10.8.0.0/16", gateway="10.7.0.2", index=bridge.index, metric=7)
            link.add_route("fd08::/32", gateway="fd07::2", index=bridge.index, metric=8)
            link.add_route("10.9.0.0/16", index=bridge.index)
            link.add_veth("veth7", bridge.index, 1400, "eth7", space.net, "02:00:00:00:00:07")
            divert.prepare(link)
        with pyroute2.IPRoute() as route:
            names = {one.get_attr("IFLA_IFNAME"): one for one in route.get_links()}
            assert names["br7"].get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == "bridge"
            assert names["br7"].get_attr("IFLA_MTU") == 1400
            assert names["veth7"].get_attr("IFLA_MASTER") == names["br7"]["index"]
            assert names["eth7"].get_attr("IFLA_ADDRESS") == "02:00:00:00:00:07"
            assert names["eth7"].get_attr("IFLA_LINK") == names["veth7"]["index"]
            assert [names[name]["flags"] & 1 for name in ("br7", "veth7", "eth7")] == [1, 1, 0]
            found = {
                (one.get_attr("IFA_ADDRESS"), one["prefixlen"])
                for one in route.get_addr(index=names["br7"]["index"])
            }
            assert {("10.7.0.1", 24), ("fd07::1", 64)} <= found
            routes = route.get_routes(family=socket.AF_INET, table=254)
            (one,) = [one for one in routes if one.get_attr("RTA_DST") == "10.8.0.0"]
            assert (one.get_attr("RTA_GATEWAY"), one.get_attr("RTA_PRIORITY")) == ("10.7.0.2", 7)
            (one,) = [one for one in routes if one.get_attr("RTA_DST") == "10.9.0.0"]
            assert (one["scope"], one.get_attr("RTA_OIF")) == (253, names["br7"]["index"])
            routes = route.get_routes(family=socket.AF_INET6, table=254)
            (one,) = [one for one in routes if one.get_attr("RTA_DST") == "fd08::"]
            assert (one.get_attr("RTA_GATEWAY"), one.get_attr("RTA_PRIORITY")) == ("fd07::2", 8)
            for family in (socket.AF_INET, socket.AF_INET6):
                marks = [one.get_attr("FRA_FWMARK") for one in route.get_rules(family=family)]
                assert divert.MARK in marks
                (local,) = route.get_routes(family=family, table=divert.MARK)
                assert local["type"] == 2  # RTN_LOCAL
            with Netlink() as link:
                link.delete_link(names["veth7"]["index"])
            left = {one.get_attr("IFLA_IFNAME"): one for one in route.get_links()}
            assert sorted(left) == ["br7", "lo"]

    space.inside(body)


def test_we_read_what_pyroute2_wrote(space: Namespaces) -> None:
    """Links, addresses and all routes, also those of another table and those that lead nowhere."""

    def body() -> None:
        with pyroute2.IPRoute() as route, Netlink() as link:
            route.link("add", ifname="br8", kind="bridge", address="02:00:00:00:00:08", mtu=1380)
            (index,) = route.link_lookup(ifname="br8")
            route.link("set", index=index, state="up")
            route.addr("add", index=index, address="10.8.0.1", prefixlen=20)
            route.addr("add", index=index, address="fd08::1", prefixlen=60)
            route.route("add", dst="10.70.0.0/15", oif=index, table=77)
            route.route("add", dst="10.90.0.0/16", type="blackhole")
            route.route("add", dst="fd70::/48", oif=index, table=77)
            route.route("add", dst="default", gateway="10.8.0.2")
            one = link.link("br8")
            assert one is not None
            assert (one.index, one.mac, one.mtu, one.is_up, one.master) == (
                index, "02:00:00:00:00:08", 1380, True, 0,
            )  # fmt: skip
            assert {two.name for two in link.links()} == {"lo", "br8"}
            assert {(index, "10.8.0.1", 20), (index, "fd08::1", 60)} <= {*link.addresses()}
            assert {two for two in link.destinations() if not two[0].startswith("fe80:")} == {
                ("0.0.0.0", 0), ("10.8.0.0", 20), ("10.70.0.0", 15), ("10.90.0.0", 16), ("fd08::", 60), ("fd70::", 48),
            }  # fmt: skip
            assert "10.70.0.0/15" in [str(one) for one in netrecords.host_subnets()]

    space.inside(body)


def test_veth_into_a_namespace_below(space: Namespaces) -> None:
    """What the router does: the other end's user namespace is a child of ours."""

    def body() -> None:
        below = Namespaces()
        with Netlink() as link:
            link.add_bridge("br7", 1500)
            bridge = link.link("br7")
            assert bridge is not None
            link.set_up(bridge.index)
            link.add_veth("veth0", bridge.index, 1500, "eth0", below.net, "02:00:00:00:00:07")
            end = link.link("veth0")
            assert end is not None
            assert end.master == bridge.index

        def check() -> None:
            with Netlink() as other:
                eth = other.link("eth0")
                assert eth is not None
                assert eth.mac == "02:00:00:00:00:07"

        below.inside(check)
        below.close()

    space.inside(body)
