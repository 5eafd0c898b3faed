"""Network options of `create` and `run`: modes, networks, ports, names, name servers. Lean: on `run`'s path."""

from __future__ import annotations

from rootless.container import mounts as mount_options
from rootless.container.read_security import namespace
from rootless.container.sysctls import sysctl_namespace
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.options import CreateOptions
    from rootless.container.read_options import Reader


def read(reader: Reader, o: CreateOptions) -> None:
    """What concerns the network, /etc/hosts and /etc/resolv.conf."""
    o.network, o.network_options, o.networks = parse_networks(reader.words("network"))
    for name in o.sysctl:
        kind = sysctl_namespace(name)
        mode = {"network": o.network, "ipc": o.ipc, "uts": o.uts}.get(kind, "")
        if mode == "host":
            title = {"network": "Network", "ipc": "IPC", "uts": "UTS"}[kind]
            raise Usage(
                f"sysctl {name}={o.sysctl[name]} can't be set since {title} Namespace set to host: invalid argument"
            )
    if reader.words("publish"):
        from rootless import netplan

        o.publish = netplan.read_ports(reader.words("publish"))
    o.expose = list(
        dict.fromkeys(port for word in reader.words("expose") for port in parse_expose(word))
    )
    _read_name_servers(reader, o)
    _read_addresses(o)
    _check_hosts(o)


def _read_name_servers(reader: Reader, o: CreateOptions) -> None:
    o.dns = [str(word) for word in reader.words("dns")]
    for word in o.dns:
        if word == "none":
            if len(o.dns) > 1:
                raise Usage("none is not allowed to be specified with other DNS ip addresses")
        elif not is_address(word):
            raise Usage(f"{word} is not an ip address")
    if o.dns == ["none"]:
        for name, said in (("dns_search", "DNSSearch"), ("dns_option", "DNSOption")):
            if getattr(o, name):
                raise Usage(
                    f"invalid config provided: UseImageResolvConf and {said} are mutually exclusive options"
                )
    if o.network == "none" or o.network.startswith("container:"):
        for name in ("dns", "dns_option", "dns_search"):
            if getattr(o, name):
                raise Usage(
                    f"conflicting options: {name.replace('_', '-')} and the network mode: "
                    f"{o.network.partition(':')[0]}"
                )
    for word in o.dns_option:
        if any(ord(c) <= 32 for c in word):
            raise Usage(f'invalid dns option "{word}"')
    for word in o.dns_search:
        if any(ord(c) <= 32 for c in word):
            raise Usage(f'invalid dns search domain "{word}"')


def _read_addresses(o: CreateOptions) -> None:
    for name in ("ip", "ip6"):
        value = getattr(o, name)
        if value:
            check_address(value, 6 if name == "ip6" else 4)
    if o.mac_address:
        o.mac_address = mac_address(o.mac_address)
    for name in ("ip", "ip6", "mac_address", "network_alias"):
        if getattr(o, name) and o.network != "bridge":
            if o.network:
                raise Usage(
                    f"--{name.replace('_', '-')} can only be set when the network mode is bridge: invalid argument"
                )
            raise Usage(
                "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking"
            )


def _check_hosts(o: CreateOptions) -> None:
    for word in o.add_host:
        _check_host(word)
    if o.network.startswith("container:"):
        if o.add_host:
            raise Usage(
                "invalid config provided: cannot set extra host entries when the container is joined to another "
                "containers network namespace: invalid configuration"
            )
        if o.hosts_file:
            raise Usage(
                f"--hosts-file {o.hosts_file}: /etc/hosts is shared with the container whose network is joined; "
                "give it to that one"
            )
    if o.no_hosts:
        for name in ("add_host", "hosts_file"):
            if getattr(o, name):
                raise Usage(f"--no-hosts and --{name.replace('_', '-')} cannot be set together")


def is_address(text: str, *, allow_v6: bool = True) -> bool:
    """Whether it is an IP address."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6) if allow_v6 else (_socket.AF_INET,):
        try:
            _socket.inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False


def check_address(text: str, version: int) -> None:
    if not is_address(text):
        raise Usage(f'"{text}" is not an ip address')
    if (":" in text) != (version == 6):
        raise Usage(f'"{text}" is not an IPv{version} address')


def parse_expose(text: str) -> list[str]:
    """Read `--expose PORT[-PORT][/PROTOCOL]` as the image's ExposedPorts are written: 80/tcp."""
    body, slash, kind = text.partition("/")
    first, dash, last = body.partition("-")
    ends = []
    for word in (first, last) if dash else (first,):
        if not word.isascii() or not word.isdigit():
            raise Usage(
                f'invalid range format for --expose: {body}: strconv.ParseUint: parsing "{word}": invalid syntax'
            )
        if not 0 < int(word) < 65536:
            raise Usage(f"invalid range format for --expose: {body}: port out of range")
        ends.append(int(word))
    if ends[-1] < ends[0]:
        raise Usage(f"invalid range format for --expose: {body}")
    if slash and kind.lower() not in ("tcp", "udp", "sctp"):
        raise Usage(
            f'validating protocols for exposed port {ends[0]}: unrecognized protocol "{kind}" in port mapping'
        )
    return [f"{port}/{kind.lower() or 'tcp'}" for port in range(ends[0], ends[-1] + 1)]


_NETWORK_MODES = ("host", "none", "private", "bridge", "pasta", "slirp4netns", "default")


def parse_networks(words: list[str]) -> tuple[str, list[str], dict[str, dict[str, str]]]:
    """Read `--network`: the mode, the helper's options, and the networks of mode bridge with their options."""
    mode, helper, networks = "", [], {}
    for position, word in enumerate(words):
        kind, colon, rest = word.partition(":")
        if word == "" or kind in _NETWORK_MODES or kind in ("ns", "container"):
            if position:
                if mode != "bridge":
                    raise Usage(
                        "cannot set multiple networks without bridge network mode, "
                        f"selected mode {mode or 'private'}: invalid argument"
                    )
                raise Usage(
                    f"can only set extra network names, selected mode {kind} conflicts with bridge: invalid argument"
                )
            if kind in ("host", "none", "private", "default") and colon:
                raise Usage(f'network mode "{kind}" takes no options')
            if kind in ("ns", "container"):
                mode = namespace(word)
            elif kind == "bridge":
                mode = "bridge"
                if colon:
                    networks["default"] = _network_options("default", rest)
            else:
                mode = "" if kind in ("private", "default") else kind
                helper = rest.split(",") if colon and rest else []
            continue
        if position and mode != "bridge":
            raise Usage(
                "cannot set multiple networks without bridge network mode, "
                f"selected mode {mode or 'private'}: invalid argument"
            )
        mode = "bridge"
        if colon:
            networks[_network_name(kind)] = _network_options(kind, rest)
        else:
            for name in word.split(","):
                networks[_network_name(name)] = {}
    return mode, helper, networks


def _network_name(name: str) -> str:
    if not mount_options.is_name(name):
        raise Usage(f"unable to find network with name or ID {name}: network not found")
    return name


def _network_options(network: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in text.split(","):
        name, _, value = word.partition("=")
        wrong = ""
        if name in ("ip", "ip6"):
            wrong = "" if is_address(value) else f'invalid ip address "{value}"'
        elif name == "mac":
            wrong = "" if _is_mac(value) else f"address {value}: invalid MAC address"
        elif name == "alias":
            wrong = "" if value else "alias cannot be empty"
        elif name in ("interface_name", "host_interface_name"):
            wrong = "" if _is_interface(value) else f'{name} "{value}": no name of an interface'
        else:
            wrong = f'unknown bridge network option "{word}"'
        if wrong:
            raise Usage(f"invalid option for network {network}: {wrong}")
        if name == "alias" and "alias" in found:
            found[name] += "," + value
        else:
            found[name] = mac_address(value) if name == "mac" else value
    return found


def _is_interface(name: str) -> bool:
    """What the kernel takes for one: IFNAMSIZ is 16, with the byte that ends it."""
    return (
        0 < len(name.encode()) < 16
        and name not in (".", "..")
        and not any(c in "/:" or c.isspace() for c in name)
    )


def _is_mac(text: str) -> bool:
    parts = text.replace("-", ":").split(":")
    return len(parts) == 6 and all(
        len(p) == 2 and all(c in "0123456789abcdefABCDEF" for c in p) for p in parts
    )


def mac_address(text: str) -> str:
    if not _is_mac(text):
        raise Usage(f"address {text}: invalid MAC address")
    return text.replace("-", ":").lower()


def _check_host(word: str) -> None:
    names, colon, address = word.partition(":")
    if not colon or not names:
        raise Usage(f'bad format for add-host: "{word}"')
    if any(c.isspace() for c in names):
        raise Usage(f'bad format for add-host: "{word}"')
    if address != "host-gateway" and not is_address(address.strip("[]")):
        raise Usage(f'invalid IP address in add-host: "{address}"')
