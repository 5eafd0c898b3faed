"""The user-defined networks: one file each, in Podman's own form, so that either engine's definitions can be read.

The default network `podman` needs no file. Names become file names, so they are checked before any path is made.
"""

from __future__ import annotations

import os

from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.files import Lock, make_dirs, read_record, write_json
from slirp.ipam import Subnet, free_subnet, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from rootless.config import Config
    from rootless.paths import Paths

    Network = dict[str, Any]

DEFAULT = "podman"
_DEFAULT_ID = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9"
DOMAIN = "dns.podman"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
# Podman's words for what `--network` takes besides names.
_RESERVED = (
    "bridge",
    "container",
    "default",
    "host",
    "none",
    "ns",
    "pasta",
    "private",
    "slirp4netns",
    "pod",
)
_BRIDGE_OPTIONS = ("mtu", "isolate", "vlan", "metric", "no_default_route")
_DOCKER_OPTIONS = {
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.name": "",
}
_PRIVILEGED_DRIVERS = ("macvlan", "ipvlan")


def check_name(name: str) -> None:
    if not name or name[0] in "_.-" or not set(name) <= _NAME or len(name) > 200:
        raise Usage(
            f"network name {name} invalid: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
        )


def default_name(config: Config | None) -> str:
    """The network of a container for which none is named."""
    return config.text("network", "default_network") if config else DEFAULT


def _default(config: Config | None) -> Network:
    subnet = Subnet(config.text("network", "default_subnet") if config else "10.88.0.0/16")
    return {
        "name": default_name(config),
        "id": _DEFAULT_ID,
        "driver": "bridge",
        "network_interface": "podman0",
        "created": _now(),  # Podman's makes it anew each time as well
        "subnets": [{"subnet": str(subnet), "gateway": subnet.address(1)}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }


def _path(paths: Paths, name: str) -> str:
    return f"{paths.networks}/{name}.json"


_SHAPE = {
    "name": str,
    "id": str,
    "driver": str,
    "created": str,
    "subnets?": list,
    "labels?": dict,
    "options?": dict,
    "ipam_options?": dict,
}


def names(paths: Paths, config: Config | None) -> list[str]:
    """The names of all networks that are recorded, sorted."""
    try:
        found = {name[:-5] for name in os.listdir(paths.networks) if name.endswith(".json")}
    except FileNotFoundError:
        found = set()
    found.add(default_name(config))
    return sorted(found)


def every(paths: Paths, config: Config | None) -> list[Network]:
    return [read(paths, config, name) for name in names(paths, config)]


def read(paths: Paths, config: Config | None, name: str) -> Network:
    """A network by its name, its whole id or an unambiguous start of that."""
    if name == "default":
        name = default_name(config)
    if set(name) <= _NAME and name[:1] not in (".", ""):
        try:
            found: Network = read_record(_path(paths, name), _SHAPE)
            return found
        except FileNotFoundError:
            pass
    if name == default_name(config):
        return _default(config)
    if len(name) >= 3 and set(name) <= set("0123456789abcdef"):
        matches = [
            network
            for network in (read(paths, config, other) for other in names(paths, config))
            if network["id"].startswith(name)
        ]
        if len(matches) > 1:
            raise Conflict(f"more than one result for network ID {name}")
        if matches:
            return matches[0]
    raise NotFound(f"unable to find network with name or ID {name}: network not found")


def write(paths: Paths, network: Network) -> None:
    make_dirs(paths.networks)
    write_json(_path(paths, network["name"]), network, sync=True)


def remove(paths: Paths, config: Config | None, network: Network) -> None:
    if network["name"] == default_name(config):
        raise Conflict(f"default network {network['name']} cannot be removed")
    try:
        os.unlink(_path(paths, network["name"]))
    except FileNotFoundError:
        raise NotFound(
            f"unable to find network with name or ID {network['name']}: network not found"
        ) from None


class Wish:
    """What `network create` asks for."""

    __slots__ = (
        "name", "driver", "subnets", "gateways", "ranges", "ipv6", "internal", "disable_dns", "dns", "labels", "options",
        "routes", "interface", "ipam_driver", "ignore",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver = "bridge"
        self.subnets: Sequence[str] = ()
        self.gateways: Sequence[str] = ()
        self.ranges: Sequence[str] = ()
        self.ipv6 = False
        self.internal = False
        self.disable_dns = False
        self.dns: Sequence[str] = ()
        self.labels: dict[str, str] = {}
        self.options: dict[str, str] = {}
        self.routes: Sequence[str] = ()
        self.interface = ""
        self.ipam_driver = ""
        self.ignore = False


def create(paths: Paths, config: Config | None, wish: Wish) -> Network:
    """Check a wish, choose what it leaves open, keep it."""
    make_dirs(paths.networks)
    with Lock(f"{paths.networks}/.lock"):
        present = every(paths, config)
        by_name = {network["name"]: network for network in present}
        if wish.name:
            check_name(wish.name)
            if wish.name in _RESERVED:
                raise Usage(
                    f"cannot create network with name {wish.name} because it conflicts with a valid network mode"
                )
            if wish.name in by_name:
                if wish.ignore:
                    return by_name[wish.name]
                raise Conflict(f"network name {wish.name} already used: network already exists")
        network = _build(wish, config, present)
        write(paths, network)
        return network


def _build(wish: Wish, config: Config | None, present: Sequence[Network]) -> Network:
    if wish.driver in _PRIVILEGED_DRIVERS:
        raise RootlessError(
            f"network driver {wish.driver} needs a device of the host, which an unprivileged user cannot have",
            hint="use the bridge driver, or --network host",
        )
    if wish.driver != "bridge":
        raise Usage(f"unsupported driver {wish.driver}: invalid argument")
    options, interface = _options(wish)
    used_interfaces = {network["network_interface"] for network in present}
    if interface:
        if (
            len(interface) > 15
            or "/" in interface
            or interface in (".", "..")
            or not set(interface) <= _NAME
        ):
            raise Usage(f"bridge name {interface} invalid: not an interface name")
        if interface in used_interfaces:
            raise Conflict(f"bridge name {interface} already in use")
    else:
        interface = next(
            f"podman{index}"
            for index in range(1, 100_000)
            if f"podman{index}" not in used_interfaces
        )
    name = wish.name or next(
        f"podman{index}"
        for index in range(1, 100_000)
        if f"podman{index}" not in {network["name"] for network in present}
    )
    driver = wish.ipam_driver or "host-local"
    if driver == "dhcp":
        raise RootlessError(
            "IPAM driver dhcp needs a DHCP server on the host's own network, which a bridge of an unprivileged user "
            "does not reach",
            hint="use host-local or none",
        )
    if driver not in ("host-local", "none"):
        raise Usage(f"unsupported ipam driver {driver}")
    if driver == "none" and wish.subnets:
        raise Usage("none ipam driver is set but subnets are given")
    network: Network = {
        "name": name,
        "id": os.urandom(32).hex(),
        "driver": "bridge",
        "network_interface": interface,
        "created": _now(),
        "subnets": [] if driver == "none" else _subnets(wish, config, present),
        "ipv6_enabled": wish.ipv6,
        "internal": wish.internal,
        "dns_enabled": not wish.disable_dns and driver != "none",
        "ipam_options": {"driver": driver},
    }
    if any(":" in entry["subnet"] for entry in network["subnets"]):
        network["ipv6_enabled"] = True
    if routes := [_route(text) for text in wish.routes]:
        network["routes"] = routes
    if wish.dns:
        network["network_dns_servers"] = check_servers(wish.dns)
        if wish.disable_dns:
            raise Usage("cannot set both --dns and --disable-dns: invalid argument")
    if wish.labels:
        network["labels"] = wish.labels
    if options:
        network["options"] = options
    return network


def check_servers(servers: Iterable[str]) -> list[str]:
    for server in servers:
        if number(server) is None:
            raise Usage(f"invalid DNS server {server}: not an IP address")
    return list(servers)


def _now() -> str:
    import time

    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{nanoseconds:09d}Z", time.gmtime(seconds))


def _options(wish: Wish) -> tuple[dict[str, str], str]:
    found = {}
    interface = wish.interface
    for key, value in wish.options.items():
        if key in _DOCKER_OPTIONS:
            if not _DOCKER_OPTIONS[key]:
                interface = interface or value
                continue
            key = _DOCKER_OPTIONS[key]
        if key not in _BRIDGE_OPTIONS:
            raise Usage(f"unsupported bridge network option {key}")
        if key in ("mtu", "metric") and not value.isdecimal():
            raise Usage(
                f'parsing {key} option: strconv.ParseUint: parsing "{value}": invalid syntax'
            )
        if key == "mtu" and not 68 <= int(value) <= 65535:
            raise Usage(f"mtu {value} is out of range, it must be from 68 to 65535")
        if key == "vlan" and not (value.isdecimal() and 0 <= int(value) <= 4094):
            raise Usage(f"vlan ID {value} must be between 0 and 4094")
        if key == "isolate" and value not in ("true", "false", "strict", "1", "0"):
            raise Usage(f'isolate option: "{value}" is not true, false or strict')
        if key == "no_default_route" and value not in ("true", "false", "1", "0"):
            raise Usage(
                f'no_default_route option: strconv.ParseBool: parsing "{value}": invalid syntax'
            )
        found[key] = value
    return found, interface


def _subnets(wish: Wish, config: Config | None, present: Sequence[Network]) -> list[dict[str, Any]]:
    if (wish.gateways or wish.ranges) and not wish.subnets:
        raise Usage("cannot set gateway or range without subnet")
    if len(wish.gateways) > len(wish.subnets):
        raise Usage("cannot set more gateways than subnets: invalid argument")
    if len(wish.ranges) > len(wish.subnets):
        raise Usage("cannot set more ranges than subnets: invalid argument")
    networks = [
        (network["name"], Subnet(entry["subnet"]))
        for network in present
        for entry in network.get("subnets") or ()
    ]
    # A VPN leads everything through itself by halves (0.0.0.0/1), which are no networks but ways out.
    routes = [route for route in host_subnets() if route.prefix >= 8]
    entries: list[dict[str, Any]] = []
    for position, text in enumerate(wish.subnets):
        try:
            subnet = Subnet(text)
        except ValueError as error:
            raise Usage(str(error)) from None
        for other, used in networks:
            if subnet.overlaps(used):
                raise Conflict(
                    f"subnet {subnet} is already used by network {other}: on the host or by another config"
                )
        for used in routes:
            if subnet.overlaps(used):
                raise Conflict(
                    f"subnet {subnet} is already used on the host or by another config: route {used}"
                )
        networks.append((wish.name, subnet))
        gateway = wish.gateways[position] if position < len(wish.gateways) else ""
        lease = wish.ranges[position] if position < len(wish.ranges) else ""
        entries.append(_entry(subnet, gateway, lease))
    used_subnets = [used for _, used in networks] + routes
    if not any(":" not in entry["subnet"] for entry in entries) and not (wish.ipv6 and entries):
        chosen = _free4(config, used_subnets)
        entries.insert(0, _entry(chosen, "", ""))
    if wish.ipv6 and not any(":" in entry["subnet"] for entry in entries):
        entries.append(_entry(_free6(used_subnets), "", ""))
    return entries


def _free4(config: Config | None, used: list[Subnet]) -> Subnet:
    pools = (
        config.tables("network", "default_subnet_pools")
        if config
        else [{"base": "10.89.0.0/16", "size": 24}]
    )
    for pool in pools:
        found = free_subnet(Subnet(str(pool["base"])), int(str(pool["size"])), used)
        if found is not None:
            return found
    raise Conflict(
        "could not find free subnet from subnet pools",
        hint="the host has routes to all of them: give one by --subnet, or others in containers.conf: default_subnet_pools",
    )


def _free6(used: list[Subnet]) -> Subnet:
    """A random unique local /64 (RFC 4193)."""
    while True:
        octets = b"\xfd" + os.urandom(7) + bytes(8)
        import socket

        chosen = Subnet(f"{socket.inet_ntop(socket.AF_INET6, octets)}/64")
        if not any(chosen.overlaps(other) for other in used):
            return chosen


def _entry(subnet: Subnet, gateway: str, lease: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"subnet": str(subnet)}
    if gateway:
        if gateway not in subnet:
            raise Usage(f"gateway {gateway} not in subnet {subnet}")
        entry["gateway"] = gateway
    else:
        entry["gateway"] = subnet.address(0 if subnet.prefix >= subnet.bits - 1 else 1)
    if lease:
        entry["lease_range"] = _lease(subnet, lease)
    return entry


def _lease(subnet: Subnet, text: str) -> dict[str, str]:
    """`--ip-range` as CIDR or FIRST-LAST."""
    if "-" in text:
        start, _, end = text.partition("-")
    else:
        try:
            inner = Subnet(text)
        except ValueError as error:
            raise Usage(str(error)) from None
        first, last = inner.usable()
        start, end = inner.address(first - inner.base), inner.address(last - inner.base)
    for address in (start, end):
        if address not in subnet:
            raise Usage(f"ip range {text} not in subnet {subnet}")
    if (number(start) or 0) > (number(end) or 0):
        raise Usage(f"ip range {text}: its end is below its start")
    return {"start_ip": start, "end_ip": end}


def _route(text: str) -> dict[str, Any]:
    """`--route DESTINATION,GATEWAY[,METRIC]`."""
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise Usage(
            f"invalid route: {text}\nFormat: --route <destination in CIDR>,<gateway>,<metric (optional)>"
        )
    try:
        destination = Subnet(parts[0])
    except ValueError:
        raise Usage(f"invalid route destination {parts[0]}") from None
    if number(parts[1]) is None or (":" in parts[1]) != (destination.version == 6):
        raise Usage(f"invalid route gateway {parts[1]}")
    route: dict[str, Any] = {"destination": str(destination), "gateway": parts[1]}
    if len(parts) == 3:
        if not parts[2].isdecimal():
            raise Usage(f"invalid route metric {parts[2]}")
        route["metric"] = int(parts[2])
    return route


def host_subnets() -> list[Subnet]:
    """What the host has routes to, whichever rule leads there: a bridge would hide it from the containers."""
    from slirp.netlink import Netlink

    try:
        with Netlink() as link:
            found = link.destinations()
    except OSError:
        return []  # nothing that can be asked, as in a sandbox that has no netlink
    return [
        Subnet(f"{address}/{prefix}")
        for address, prefix in found
        if not address.startswith("fe80:")
    ]


def of_container(config: Config | None, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The networks that a container's options name, with what it wants of each; the default one by its name."""
    if options.get("network") != "bridge":
        return {}
    default = default_name(config)
    wanted = options.get("networks") or {}
    return {default if name == "default" else name: given for name, given in wanted.items()}
