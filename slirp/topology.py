"""Who is on which network with which addresses, and what follows from it: rules, names, descriptions. Pure.

Networks are their definitions as Podman writes them; endpoints are opaque names.
"""

from __future__ import annotations

from rootless.errors import Conflict, RootlessError
from slirp import dns, firewall
from slirp.ipam import Subnet, allocate
from slirp.netlink import random_mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]


UPSTREAM = "upstream"


class Member:
    """An endpoint's place in one network."""

    __slots__ = (
        "network", "interface", "mac", "addresses", "aliases", "veth", "host_interface",
    )  # fmt: skip

    def __init__(
        self,
        network: str,
        interface: str,
        mac: str,
        addresses: list[tuple[str, int, str]],
        aliases: list[str],
    ) -> None:
        self.network = network
        self.interface = interface  # inside the container
        self.mac = mac
        self.addresses = addresses  # (address, prefix length, gateway or "")
        self.aliases = aliases
        self.veth = ""  # our end, once attached
        self.host_interface = ""  # its name, where one is wanted

    def to_json(self) -> Document:
        return {
            "interface": self.interface,
            "mac": self.mac,
            "addresses": [list(entry) for entry in self.addresses],
            "aliases": self.aliases,
        }


class Endpoint:
    """What a client reserved."""

    __slots__ = (
        "name",
        "names",
        "members",
        "servers",
        "owner",
        "attached",
    )

    def __init__(self, name: str, names: list[str], owner: int) -> None:
        self.name = name
        self.names = names
        self.members: dict[str, Member] = {}
        self.servers: list[str] = []  # its own choice of where unknown names are asked
        self.owner = owner
        self.attached = False


class Topology:
    """All endpoints and the networks that they are on."""

    __slots__ = ("endpoints", "networks", "upstream", "_last")

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.networks: dict[str, Document] = {}
        self.upstream: list[str] = []  # where names are asked that no network has servers for
        self._last: dict[str, str] = {}  # subnet → the address given out last

    def endpoint(self, name: str) -> Endpoint:
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            raise RootlessError(f"networks: nothing is reserved for {name}")
        return endpoint

    def join(self, endpoint: Endpoint, wish: Document, before: Endpoint | None = None) -> Member:
        """Choose an endpoint's addresses in a network: those it had before the restart, where it had some."""
        network = wish["network"]
        label = network["name"]
        self.networks[label] = network
        if label in endpoint.members:
            raise Conflict(f"is already connected to network {label}")
        taken = {
            address: holder.name
            for holder in self.endpoints.values()
            for member in holder.members.values()
            for address, _, _ in member.addresses
        }
        wanted = [str(wish[key]) for key in ("ip", "ip6") if wish.get(key)]
        addresses = []
        for entry in network.get("subnets") or ():
            subnet = Subnet(entry["subnet"])
            gateway = entry.get("gateway") or ""
            given = next((address for address in wanted if address in subnet), "")
            if given:
                wanted.remove(given)
                if given in taken and taken[given] != endpoint.name:
                    raise Conflict(
                        f"IPAM error: requested ip address {given} is already allocated to container ID {taken[given]}"
                    )
                if given == gateway:
                    raise Conflict(
                        f"IPAM error: requested ip address {given} is the gateway of network {label}"
                    )
                address = given
            elif (network.get("ipam_options") or {}).get("driver") == "none":
                continue
            else:
                lease = entry.get("lease_range") or {}
                kept = before.members.get(label) if before is not None else None
                earlier = [one for one, _, _ in kept.addresses if one in subnet] if kept else []
                try:
                    address = (
                        earlier[0]
                        if earlier and earlier[0] not in taken
                        else allocate(
                            subnet,
                            {*taken, gateway},
                            self._last.get(entry["subnet"], ""),
                            lease.get("start_ip", ""),
                            lease.get("end_ip", ""),
                        )
                    )
                except ValueError as error:
                    raise Conflict(f"IPAM error: network {label}: {error}") from None
                self._last[entry["subnet"]] = address
            addresses.append((address, subnet.prefix, gateway))
        if wanted:
            raise Conflict(f"requested static ip {wanted[0]} not in any subnet on network {label}")
        used = {member.interface for member in endpoint.members.values()}
        interface = wish.get("interface") or next(
            f"eth{number}" for number in range(1000) if f"eth{number}" not in used
        )
        if interface in used:
            raise Conflict(
                f"interface {interface} is used by another network of the same container"
            )
        mac = wish.get("mac") or random_mac()
        member = Member(label, interface, mac, addresses, list(wish.get("aliases") or []))
        member.host_interface = wish.get("host_interface") or ""
        if member.host_interface and member.host_interface in self._interfaces():
            raise Conflict(f"interface {member.host_interface} of the networks exists already")
        endpoint.members[label] = member
        return member

    def _interfaces(self) -> set[str]:
        """Names that are taken in the networks' namespace."""
        members = [one for holder in self.endpoints.values() for one in holder.members.values()]
        bridges = {network["network_interface"] for network in self.networks.values()}
        return {
            "lo",
            *bridges,
            *(one.veth for one in members),
            *(one.host_interface for one in members),
        }

    def unused(self) -> list[Document]:
        """The networks that nobody is on any more, taken out."""
        used = {name for endpoint in self.endpoints.values() for name in endpoint.members}
        return [self.networks.pop(name) for name in list(self.networks) if name not in used]

    def leads_out(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is on a network with a way out."""
        return any(not self.networks[name].get("internal") for name in endpoint.members)

    def describe(self, endpoint: Endpoint) -> Document:
        return {
            "endpoint": endpoint.name,
            "networks": {
                name: self._describe_member(member) for name, member in endpoint.members.items()
            },
        }

    def _describe_member(self, member: Member) -> Document:
        network = self.networks[member.network]
        servers = []
        if network.get("dns_enabled"):
            servers = [gateway for _, _, gateway in member.addresses if gateway]
        answers = (network.get("options") or {}).get("no_default_route") not in ("true", "1")
        return {
            **member.to_json(),
            "id": network["id"],
            "dns": servers,
            "internal": bool(network.get("internal")),
            "answers": answers,
        }

    def rules(self) -> str:
        """The firewall's script."""
        zones = [
            firewall.Zone(
                network["network_interface"],
                [entry["subnet"] for entry in network.get("subnets") or ()],
                bool(network.get("internal")),
                {"true": "true", "1": "true", "strict": "strict"}.get(
                    str((network.get("options") or {}).get("isolate", "")).lower(), ""
                ),
            )
            for network in self.networks.values()
        ]
        return firewall.ruleset(zones)

    def gateways(self) -> list[str]:
        """Where names are answered: on the gateways of the networks that want it."""
        return [
            entry["gateway"]
            for network in self.networks.values()
            if network.get("dns_enabled")
            for entry in network.get("subnets") or ()
            if entry.get("gateway")
        ]

    def names_for(self, asker: str, gateway: str) -> list[dns.Names]:
        """What an address may ask: the names on all its networks, that of the gateway it asked first."""
        servers: list[str] = []
        labels = [
            network["name"]
            for network in self.networks.values()
            if any(entry.get("gateway") == gateway for entry in network.get("subnets") or ())
        ]
        for endpoint in self.endpoints.values():
            if any(
                asker == address
                for member in endpoint.members.values()
                for address, _, _ in member.addresses
            ):
                labels += [label for label in endpoint.members if label not in labels]
                servers = endpoint.servers
        return [self._names(label, servers) for label in labels]

    def _servers(self, label: str, wanted: list[str], upstream: list[str]) -> list[str]:
        network = self.networks[label]
        if network.get("internal"):
            return []
        return list(wanted or network.get("network_dns_servers") or upstream)

    def asked_for(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Where names are asked that are nobody's on any of an endpoint's networks; UPSTREAM for what the way out has."""
        return tuple(
            dict.fromkeys(
                server
                for label in endpoint.members
                for server in self._servers(label, endpoint.servers, [UPSTREAM])
            )
        )

    def _names(self, label: str, wanted: list[str]) -> dns.Names:
        names = dns.Names(self._servers(label, wanted, self.upstream))
        for endpoint in self.endpoints.values():
            member = endpoint.members.get(label)
            if member is None or not endpoint.attached:
                continue
            for address, _, _ in member.addresses:
                for name in (*endpoint.names, *member.aliases):
                    names.add(name, address)
        return names
