"""What a user asks of networks, read and checked: `--network`, `--publish` and what belongs to them. Nothing is done yet.

Hot: on the path of every `run`.
"""

from __future__ import annotations

from rootless.errors import Usage
from slirp import ports as published
from slirp.ports import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rootless.config import Config
    from rootless.container.options import CreateOptions
    from rootless.paths import Paths

DRIVERS = ("pasta", "slirp4netns")


class Plan:
    """What was asked for. `mode`: none, host, pasta, slirp4netns, bridge, container, ns."""

    __slots__ = ("mode", "target", "words", "networks", "ports", "explicit")

    def __init__(
        self,
        mode: str,
        target: str = "",
        words: Sequence[str] = (),
        networks: dict[str, dict[str, Any]] | None = None,
        ports: Sequence[PortMapping] = (),
        explicit: bool = True,
    ) -> None:
        self.mode = mode
        self.target = target  # container: its name or id; ns: the path
        self.words = list(words)  # the driver's options
        self.networks = networks or {}  # bridge: by name, with ip, ip6, mac, alias, interface_name
        self.ports = list(ports)
        self.explicit = explicit  # the user named the driver, so that another one will not do

    @property
    def own_netns(self) -> bool:
        """Whether the container gets a network namespace of its own."""
        return self.mode in ("none", "bridge", *DRIVERS)


def plan(
    network: str,
    words: Sequence[str],
    networks: dict[str, dict[str, Any]],
    ports: Sequence[dict[str, Any]],
    config: Config | None = None,
) -> Plan:
    """From `CreateOptions`: `--network` as mode, driver words and networks, and `--publish` as records.

    A container made for bridges (settle_networks) that is on none any more has been disconnected.
    """
    mappings = [PortMapping.from_json(record) for record in ports]
    mode, target, explicit = network, "", True
    if mode.startswith("container:"):
        mode, target = "container", network.partition(":")[2]
    elif mode.startswith("ns:"):
        mode, target = "ns", network.partition(":")[2]
    elif mode in ("", "private", "default"):
        explicit = False
        mode = config.text("network", "default_rootless_network_cmd") if config else "pasta"
        netns = config.text("containers", "netns") if config else "private"
        if netns in ("none", "host", "bridge", *DRIVERS):
            mode = netns
        elif netns not in ("", "private", "default"):
            mode, networks = "bridge", {netns: {}}
        if mode == "bridge" and not networks:
            networks = {"default": {}}
    if mode == "container" and mappings:
        raise Usage(
            "conflicting options: port publishing and the container type network mode",
            hint="publish the ports of the container that owns the network",
        )
    return Plan(mode, target, words, networks, mappings, explicit)


def read_ports(words: Sequence[str]) -> list[dict[str, Any]]:
    """All `--publish` of one command line, checked; a host port of 0 is to be chosen."""
    return [mapping.to_json() for mapping in published.parse_publish(words)]


def settle_ports(
    ports: Sequence[dict[str, Any]], exposed: Sequence[str] = (), publish_all: bool = False
) -> list[dict[str, Any]]:
    """At `create`: what will be published, each with its host port, for the record; -P and random ones are chosen."""
    mappings = [PortMapping.from_json(record) for record in ports]
    if publish_all:
        mappings = published.publish_exposed(mappings, published.parse_expose(exposed))
    return [mapping.to_json() for mapping in published.choose_host_ports(mappings)]


def settle_networks(paths: Paths, config: Config | None, options: CreateOptions) -> None:
    """At `create`: the networks by their names, all of which must exist; one that is missing is an error at once."""
    mode = options.network.partition(":")[0]
    if mode in ("host", "none", "ns") and (options.publish or options.publish_all):
        from rootless import log

        log.warn(
            f'Port mappings have been discarded because "{mode}" network namespace mode does not support them'
        )
        options.publish, options.publish_all = [], False
    if mode != "bridge":
        return
    from rootless import netrecords

    wanted = options.networks or {"default": {}}
    found = {}
    for name, given in wanted.items():
        network = netrecords.read(paths, config, name)
        wish_of(network, given)
        found[network["name"]] = given
    options.networks = found
    add_static(
        Plan("bridge", networks={name: dict(given) for name, given in found.items()}), options
    )


def add_static(wanted: Plan, options: CreateOptions) -> None:
    """--ip, --ip6, --mac-address and --network-alias belong to the one network that is named."""
    given = {"ip": options.ip, "ip6": options.ip6, "mac": options.mac_address}
    given = {key: value for key, value in given.items() if value}
    if given and len(wanted.networks) != 1:
        flag = {"ip": "--ip", "ip6": "--ip6", "mac": "--mac-address"}[next(iter(given))]
        raise Usage(
            f"{flag} can only be set for a single network: "
            f"{len(wanted.networks)} networks were given; use --network NAME:ip=…"
        )
    for entry in wanted.networks.values():
        entry.update(given)
        if options.network_alias:
            aliases = [entry["alias"]] if entry.get("alias") else []
            entry["alias"] = ",".join([*aliases, *options.network_alias])


def wish_of(network: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What a container wants of a network, as the router understands it."""
    wish: dict[str, Any] = {"network": network}
    for key, value in given.items():
        if key == "alias":
            wish["aliases"] = [alias for alias in value.split(",") if alias]
        elif key in ("ip", "ip6", "mac"):
            wish[key] = value
        elif key == "interface_name":
            wish["interface"] = value
        elif key == "host_interface_name":
            wish["host_interface"] = value
        else:
            raise Usage(f"unknown bridge network option: {key}")
    return wish
