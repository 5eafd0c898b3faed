"""Bridges, pairs of interfaces, addresses and routes: what the router does to the kernel's network namespaces."""

from __future__ import annotations

import errno
from _blake2 import blake2b  # hashlib loads OpenSSL, which the router would keep for this alone

from rootless.errors import Conflict, RootlessError
from rootless.linux.sched import CLONE_NEWNET, setns
from slirp import divert
from slirp.ipam import Subnet
from slirp.netlink import Netlink
from slirp.sysctl import set_sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slirp.topology import Document, Endpoint, Member

_MTU = 65520  # what pasta gives its interface: a bridge behind it should not need smaller packets
_METRIC = 100


class Wiring:
    """The namespace of all bridges, which the calling process is in, and those of the containers."""

    __slots__ = ("netns", "netlink")

    def __init__(self, netns: int) -> None:
        self.netns = netns
        self.netlink = Netlink()

    def prepare(self) -> None:
        loopback = self.netlink.link("lo")
        if loopback is not None and not loopback.is_up:
            self.netlink.set_up(loopback.index)
        for name, value in (
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            # Answers to a relay's clients are for us, whom their packets' destination does not name.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ):
            set_sysctl(name, value)
        divert.prepare(self.netlink)

    def bridge(self, network: Document) -> int:
        """The index of a network's bridge, made where it is missing."""
        name = network["network_interface"]
        link = self.netlink.link(name)
        if link is not None:
            return link.index
        vlan = int(network.get("options", {}).get("vlan", 0))
        try:
            self.netlink.add_bridge(name, _mtu(network), vlan=bool(vlan))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                what = "VLAN filtering" if vlan else "bridges"
                raise RootlessError(
                    f"network {network['name']}: this kernel has no {what}"
                ) from error
            raise
        link = self.netlink.link(name)
        if link is None:
            raise RootlessError(f"network {network['name']}: its bridge {name} vanished")
        for subnet in network.get("subnets") or ():
            gateway = subnet.get("gateway")
            if gateway and gateway != "0.0.0.0":
                self.netlink.add_address(link.index, gateway, Subnet(subnet["subnet"]).prefix)
        if vlan:
            self.netlink.set_vlan(link.index, vlan, bridge=True)
        self.netlink.set_up(link.index)
        return link.index

    def drop_bridge(self, network: Document) -> None:
        link = self.netlink.link(network["network_interface"])
        if link is not None:
            self.netlink.delete_link(link.index)

    def enter(self, netns: int) -> Netlink:
        """A socket into a container's namespace."""
        setns(netns, CLONE_NEWNET)
        try:
            # No autoconfiguration: its addresses are the ones we give.
            set_sysctl("ipv6/conf/default/accept_ra", "0")
            # Who has talked to the one before with these addresses is told of the new card at once.
            set_sysctl("ipv4/conf/default/arp_notify", "1")
            set_sysctl("ipv6/conf/default/ndisc_notify", "1")
            inside = Netlink()
            loopback = inside.link("lo")
            if loopback is not None and not loopback.is_up:
                inside.set_up(loopback.index)
            return inside
        finally:
            setns(self.netns, CLONE_NEWNET)

    def wire(
        self,
        endpoint: Endpoint,
        member: Member,
        network: Document,
        netns: int,
        inside: Netlink,
        number: int,
    ) -> None:
        """Connect a container's namespace to a network's bridge, made where it is missing."""
        bridge = self.bridge(network)
        member.veth = veth_name(endpoint, member)
        old = self.netlink.link(member.veth)
        if old is not None and old.master == bridge:
            self.netlink.delete_link(old.index)
        try:
            self.netlink.add_veth(
                member.veth, bridge, _mtu(network), member.interface, netns, member.mac
            )
        except FileExistsError:
            taken = member.veth if self.netlink.link(member.veth) else member.interface
            where = "among the networks" if taken == member.veth else "in the container"
            member.veth = ""  # it is somebody else's
            raise Conflict(
                f"network {member.network}: an interface {taken} exists already {where}"
            ) from None
        options = network.get("options") or {}
        if options.get("vlan"):
            link = self.netlink.link(member.veth)
            if link is not None:
                self.netlink.set_vlan(link.index, int(options["vlan"]))
        link = inside.link(member.interface)
        if link is None:
            raise RootlessError(f"network {member.network}: interface {member.interface} vanished")
        for address, prefix, _ in member.addresses:
            inside.add_address(link.index, address, prefix)
        inside.set_up(link.index)
        metric = int(options.get("metric") or _METRIC) + number
        if not network.get("internal") and options.get("no_default_route") not in ("true", "1"):
            for address, _, gateway in member.addresses:
                if gateway:
                    everything = "::/0" if ":" in address else "0.0.0.0/0"
                    inside.add_route(everything, gateway=gateway, index=link.index, metric=metric)
        for route in network.get("routes") or ():
            inside.add_route(
                route["destination"],
                gateway=route["gateway"],
                index=link.index,
                metric=int(route.get("metric") or metric),
            )

    def find(self, endpoint: Endpoint, member: Member) -> None:
        """What a router before has wired goes by the same name."""
        member.veth = veth_name(endpoint, member)

    def has_address(self, address: str) -> bool:
        return any(address == present for _, present, _ in self.netlink.addresses())

    def unwire(self, member: Member) -> None:
        if member.veth:
            link = self.netlink.link(member.veth)
            if link is not None:
                try:
                    self.netlink.delete_link(link.index)
                except OSError as error:
                    # The container's end took it along meanwhile.
                    if error.errno != errno.ENODEV:
                        raise
            member.veth = ""


def _mtu(network: Document) -> int:
    return int((network.get("options") or {}).get("mtu") or _MTU)


def veth_name(endpoint: Endpoint, member: Member) -> str:
    """The same for the same endpoint and network, so that a new router finds what the one before made."""
    if member.host_interface:
        return member.host_interface
    key = blake2b(f"{endpoint.name} {member.network}".encode(), digest_size=5).hexdigest()
    return f"veth{key}"
