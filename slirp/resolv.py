"""Contents of a container's /etc/resolv.conf and /etc/hosts, as Podman makes them. Pure but for `read_host`."""

from __future__ import annotations

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESOLV_CONF = "/etc/resolv.conf"
# What systemd-resolved asks itself: its stub on 127.0.0.53 is no use in another network namespace.
_RESOLVED = "/run/systemd/resolve/resolv.conf"
_STUB = "127.0.0.53"
# Podman's last resort, where the host names no server that a container could reach.
_DEFAULT_SERVERS = ("8.8.8.8", "8.8.4.4")
_DEFAULT_SERVERS_6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
_LIMIT = 1 << 20


class ResolvConf:
    """The three things that Podman carries over from a resolv.conf."""

    __slots__ = ("nameservers", "search", "options")

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        search: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.nameservers = list(nameservers)
        self.search = list(search)
        self.options = list(options)

    def text(self) -> str:
        lines = []
        # A lone dot says: no search domain at all.
        if self.search and self.search != ["."]:
            lines.append("search " + " ".join(self.search))
        lines += [f"nameserver {server}" for server in self.nameservers]
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> ResolvConf:
    """Read a resolv.conf(5); what it cannot mean is left out."""
    conf = ResolvConf()
    for line in text.splitlines():
        words = line.partition("#")[0].partition(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            conf.nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            conf.search = words[1:]
        elif words[0] == "options":
            conf.options = words[1:]
    return conf


def read_host(own_netns: bool) -> ResolvConf:
    """The host's, for a container in a network namespace of its own or in the host's."""
    conf = parse(_read(RESOLV_CONF))
    if own_netns and conf.nameservers == [_STUB]:
        behind = parse(_read(_RESOLVED))
        conf.nameservers = behind.nameservers or conf.nameservers
    return conf


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(_LIMIT)
    except OSError:
        return ""


def is_loopback(address: str) -> bool:
    """Whether an address means the host itself, which a container would take for itself."""
    return address.startswith("127.") or address in ("::1", "0.0.0.0", "::")


def resolv_conf(
    host: ResolvConf,
    *,
    own_netns: bool = True,
    ipv6: bool = True,
    network_servers: Sequence[str] = (),
    keep_host_servers: bool = True,
    network_search: Sequence[str] = (),
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """What the user gave comes first, then what the network offers, then the host's."""
    if servers:
        chosen = list(servers)
    else:
        chosen = list(network_servers)
        if keep_host_servers or not chosen:
            usable = list(host.nameservers)
            if own_netns:
                usable = [
                    server
                    for server in usable
                    if not is_loopback(server) and (ipv6 or ":" not in server)
                ]
                if not usable and not chosen:
                    usable = [*_DEFAULT_SERVERS, *(_DEFAULT_SERVERS_6 if ipv6 else ())]
            chosen += [server for server in usable if server not in chosen]
    domains = list(search)
    if not domains:
        domains = [*network_search, *(name for name in host.search if name not in network_search)]
    return ResolvConf(chosen, domains, list(options) or host.options).text()


# --- /etc/hosts -------------------------------------------------------------------------------------------------------

_HOST_NAMES = ("host.containers.internal", "host.docker.internal")


def hosts(
    base: str,
    *,
    added: Iterable[str] = (),
    own: Sequence[tuple[str, Sequence[str]]] = (),
    host_address: str = "",
) -> str:
    """`added`: the words of --add-host; `own`: the container's addresses with its names; `base`: the file they join."""
    entries: list[tuple[str, list[str]]] = []
    for word in added:
        names, address = split_add_host(word)
        if address == "host-gateway":
            if not host_address:
                raise RootlessError(
                    f'unable to replace "host-gateway" of host entry "{word}": '
                    "the host has no address that this container can reach",
                    hint="pasta before 2024_08 has no --map-guest-addr; set host_containers_internal_ip in containers.conf",
                )
            address = host_address
        entries.append((address, names))
    entries += parse_hosts(base)
    known = {name for _, names in entries for name in names}
    if not any("localhost" in names for _, names in entries):
        entries += [("127.0.0.1", ["localhost"]), ("::1", ["localhost"])]
    if host_address:
        missing = [name for name in _HOST_NAMES if name not in known]
        if missing:
            entries.append((host_address, missing))
    for address, own_names in own:
        fresh = [name for name in dict.fromkeys(own_names) if name and name not in known]
        if fresh:
            entries.append((address, fresh))
    return "".join(f"{address}\t{' '.join(names)}\n" for address, names in entries)


def parse_hosts(text: str) -> list[tuple[str, list[str]]]:
    """The entries of a hosts(5) file: address and names."""
    entries = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1:
            entries.append((words[0], words[1:]))
    return entries


def split_add_host(word: str) -> tuple[list[str], str]:
    """`NAME[;NAME…]:ADDRESS`."""
    names, _, address = word.partition(":")
    return [name for name in names.split(";") if name], address
