"""The network in the document of `inspect`: mode, ports, and the addresses on each network."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.options import CreateOptions
    from rootless.container.status import Status

    Document = dict[str, Any]

_ENDPOINT: Document = {
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "",
}


def network_mode(engine: Engine, options: CreateOptions) -> str:
    """The mode as Podman names it: the helper for the default."""
    mode = options.network
    if mode in ("", "private", "default"):
        return engine.config.text("network", "default_rootless_network_cmd")
    return mode


def published(record: Document, live: Document | None) -> list[Document]:
    """The published ports with their host ports: of the running container, else as they were settled or asked for."""
    network = (live or {}).get("network") or {}
    found: list[Document] = (
        network.get("ports") or record.get("ports") or record["options"].get("publish") or []
    )
    return found


def port_bindings(ports: list[Document]) -> dict[str, list[dict[str, str]]]:
    """`{"80/tcp": [{HostIp, HostPort}]}`, a range port by port."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        for protocol in str(port.get("protocol") or "tcp").split(","):
            for step in range(int(port.get("range") or 1)):
                number = int(port.get("host_port") or 0)
                found.setdefault(f"{int(port['container_port']) + step}/{protocol}", []).append(
                    {
                        "HostIp": port.get("host_ip") or "0.0.0.0",
                        "HostPort": str(number + step) if number else "",
                    }
                )
    return dict(sorted(found.items()))


def exposed_ports(options: CreateOptions, config: Document, ports: list[Document]) -> list[str]:
    """EXPOSE, --expose and what is published, as PORT/PROTOCOL."""
    words = list(options.expose) + list(config.get("ExposedPorts") or {})
    found = set(port_bindings(ports))
    for word in words:
        numbers, _, protocol = word.partition("/")
        first, _, last = numbers.partition("-")
        if first.isdigit() and (last or first).isdigit():
            for number in range(int(first), min(int(last or first), 65535) + 1):
                found.add(f"{number}/{protocol or 'tcp'}")
    return sorted(found)


def network_settings(
    engine: Engine, status: Status, options: CreateOptions, config: Document
) -> Document:
    """NetworkSettings of a container that has a network of its own, or none."""
    mode = network_mode(engine, options)
    live = status.live or {}
    network = live.get("network") or {}
    ports = published(status.record, status.live)
    bindings: dict[str, Any] = dict.fromkeys(exposed_ports(options, config, ports))
    bindings.update(port_bindings(ports))
    settings: Document = {
        **_ENDPOINT,
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": bindings,
        "SandboxKey": f"/proc/{status.pid}/ns/net" if status.pid and mode != "host" else "",
    }
    names = {"bridge": list(options.networks), "none": [mode], "host": [mode]}.get(mode, [])
    joined = {name: _endpoint(engine, status, name, options, network) for name in names}
    if mode.startswith("ns:") and status.pid:
        from rootless.container.joining import addresses_in

        _fill(settings, addresses_in(status.pid))
    if joined:
        settings["Networks"] = joined
        if mode == "bridge" and len(joined) == 1:
            (only,) = joined.values()
            settings.update({key: only[key] for key in _ENDPOINT})
    return settings


def _endpoint(
    engine: Engine, status: Status, name: str, options: CreateOptions, network: Document
) -> Document:
    endpoint: Document = {
        **_ENDPOINT,
        "NetworkID": name,
        "DriverOpts": None,
        "IPAMConfig": None,
        "Links": None,
    }
    if name not in options.networks:
        return endpoint
    found = (network.get("networks") or {}).get(name) or {}
    endpoint["NetworkID"] = found.get("id") or _network_id(engine, name)
    _fill(endpoint, found)
    given = options.networks[name].get("alias", "")
    aliases = [alias for alias in given.split(",") if alias] + options.network_alias
    endpoint["Aliases"] = [*aliases, status.id[:12]]
    return endpoint


def _fill(endpoint: Document, found: Document) -> None:
    """Into Podman's fields: addresses as (address, prefix length), gateways and the MAC address."""
    for address, prefix in found.get("addresses") or []:
        if ":" in address:
            endpoint.update(GlobalIPv6Address=address, GlobalIPv6PrefixLen=prefix)
        else:
            endpoint.update(IPAddress=address, IPPrefixLen=prefix)
    for gateway in found.get("gateways") or []:
        endpoint["IPv6Gateway" if ":" in gateway else "Gateway"] = gateway
    endpoint["MacAddress"] = found.get("mac", "")


def _network_id(engine: Engine, name: str) -> str:
    from rootless import netrecords
    from rootless.errors import RootlessError

    try:
        return str(netrecords.read(engine.paths, engine.config, name)["id"])
    except RootlessError:
        return name  # removed meanwhile
