"""Published ports: their notation, the checks before they are taken, and who holds a taken one.

The notation and its error texts are Podman's (`-p [[IP:][HOST]:]CONTAINER[/PROTOCOL]`). Hot: on the path of `run -p`;
`_socket` instead of `socket`, which costs 3 ms of enums.
"""

from __future__ import annotations

import _socket
import errno
import os

from rootless.errors import Conflict, RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PROTOCOLS = ("tcp", "udp", "sctp")
_PRIVILEGED = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


class PortMapping:
    """`count` ports of the host from `host_port` on, given to as many of the container."""

    __slots__ = ("host_ip", "host_port", "container_port", "count", "protocol")

    def __init__(
        self,
        host_ip: str,
        host_port: int,
        container_port: int,
        count: int = 1,
        protocol: str = "tcp",
    ) -> None:
        self.host_ip = host_ip  # empty: all addresses, of both families
        self.host_port = host_port  # 0: one that is free, see `choose_host_ports`
        self.container_port = container_port
        self.count = count
        self.protocol = protocol

    def to_json(self) -> dict[str, object]:
        """The field names of Podman's record."""
        return {
            "host_ip": self.host_ip,
            "container_port": self.container_port,
            "host_port": self.host_port,
            "range": self.count,
            "protocol": self.protocol,
        }

    @classmethod
    def from_json(cls, value: dict[str, object]) -> PortMapping:
        return cls(
            str(value.get("host_ip", "")),
            int(str(value.get("host_port", 0))),
            int(str(value["container_port"])),
            int(str(value.get("range", 1))),
            str(value.get("protocol", "tcp")),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PortMapping) and self.to_json() == other.to_json()

    def __repr__(self) -> str:
        return f"PortMapping({describe(self)})"


def describe(mapping: PortMapping) -> str:
    """As `ps` shows it: `0.0.0.0:8080-8082->80-82/tcp`."""
    host = host_part(mapping)
    last = mapping.count - 1
    if last:
        return (
            f"{host}{mapping.host_port}-{mapping.host_port + last}->"
            f"{mapping.container_port}-{mapping.container_port + last}/{mapping.protocol}"
        )
    return f"{host}{mapping.host_port}->{mapping.container_port}/{mapping.protocol}"


def host_part(mapping: PortMapping) -> str:
    """The address as `port` and `ps` show it, with the colon."""
    address = mapping.host_ip or "0.0.0.0"
    return f"[{address}]:" if ":" in address else f"{address}:"


def parse_publish(values: Iterable[str]) -> list[PortMapping]:
    """The mappings of all `-p` of one command line, one per protocol."""
    mappings: list[PortMapping] = []
    for value in values:
        for mapping in _parse_one(value):
            if mapping not in mappings:
                mappings.append(mapping)
    _refuse_overlaps(mappings)
    return _joined(mappings)


def _joined(mappings: Sequence[PortMapping]) -> list[PortMapping]:
    """What follows on another one, on both sides, becomes part of it: so Podman records and shows them."""
    joined: set[int] = set()
    ends: dict[tuple[str, str, int, int], PortMapping] = {}
    for one in sorted(mappings, key=lambda mapping: mapping.container_port):
        if not one.host_port:
            continue  # one that is still to be chosen
        before = ends.pop((one.host_ip, one.protocol, one.host_port, one.container_port), None)
        if before is not None:
            joined.add(id(one))
            before.count += one.count
            one = before
        following = (one.host_port + one.count, one.container_port + one.count)
        ends[one.host_ip, one.protocol, *following] = one
    return [one for one in mappings if id(one) not in joined]


def parse_expose(values: Iterable[str]) -> list[tuple[int, int, str]]:
    """`--expose` and an image's ExposedPorts: (port, count, protocol) each."""
    found: list[tuple[int, int, str]] = []
    for value in values:
        numbers, separator, protocol = value.partition("/")
        if separator and not protocol:
            raise Usage("must provide a non-empty protocol to publish")
        if "/" in protocol:
            raise Usage("invalid port format - protocol can only be specified once")
        start, count = _parse_range(numbers)
        for name in _parse_protocols(protocol):
            if (start, count, name) not in found:
                found.append((start, count, name))
    return found


def publish_exposed(
    mappings: Sequence[PortMapping], exposed: Iterable[tuple[int, int, str]]
) -> list[PortMapping]:
    """`-P`: a random host port for every exposed port that no `-p` publishes."""
    wanted = list(mappings)
    taken = {
        (mapping.container_port + step, mapping.protocol)
        for mapping in mappings
        for step in range(mapping.count)
    }
    for start, count, protocol in exposed:
        for port in range(start, start + count):
            if (port, protocol) not in taken:
                taken.add((port, protocol))
                wanted.append(PortMapping("", 0, port, 1, protocol))
    return wanted


def _parse_one(value: str) -> list[PortMapping]:
    parts = value.split("/")
    if len(parts) > 2:
        raise Usage("invalid port format - protocol can only be specified once")
    protocol = parts[1] if len(parts) == 2 else None
    host_ip, host_port, container_port = _split(parts[0])
    if not container_port:
        raise Usage("must provide a non-empty container port to publish")
    try:
        start, count = _parse_range(container_port)
    except Usage as error:
        raise Usage(f"parsing container port: {error.message}") from None
    if protocol == "":
        raise Usage("must provide a non-empty protocol to publish")
    address = ""
    if host_ip is not None:
        if not host_ip:
            raise Usage("must provide a non-empty container host IP to publish")
        if host_ip != "0.0.0.0":
            address = normal_address(host_ip)
            if not address:
                raise Usage(f'cannot parse "{host_ip}" as an IP address')
    first = 0
    if host_port:
        try:
            first, host_count = _parse_range(host_port)
        except Usage as error:
            raise Usage(f"parsing host port: {error.message}") from None
        if host_count != count:
            raise Usage(
                f"host and container port ranges have different lengths: {host_count} vs {count}"
            )
    return [
        PortMapping(address, first, start, count, name) for name in _parse_protocols(protocol or "")
    ]


def _split(text: str) -> tuple[str | None, str | None, str]:
    """[[ADDRESS:]HOST PORT:]CONTAINER PORT, an IPv6 address in brackets; None for what is not there."""
    wrong = "invalid port format -"
    bracketed = text.split("]")
    if len(bracketed) > 2:
        raise Usage(f"{wrong} at most one IPv6 address can be specified in a --publish")
    if len(bracketed) == 2:
        if not bracketed[0].startswith("["):
            raise Usage(f"{wrong} IPv6 addresses must be enclosed by []")
        if not bracketed[1].startswith(":"):
            raise Usage(f"{wrong} IPv6 address must be followed by a colon (':')")
        text = bracketed[1][1:]
    address = bracketed[0][1:] if len(bracketed) == 2 else None
    fields = text.split(":")
    if len(fields) == 1:
        if address is not None:
            raise Usage(f"{wrong} must provide host and destination port if specifying an IP")
        return None, None, fields[0]
    if len(fields) == 2:
        return address, fields[0], fields[1]
    if len(fields) == 3:
        if address is not None:
            raise Usage(f"{wrong} when v6 address specified, must be [ipv6]:hostPort:ctrPort")
        return fields[0], fields[1], fields[2]
    raise Usage(f"{wrong} format is [[hostIP:]hostPort:]containerPort")


def _parse_protocols(text: str) -> list[str]:
    names: list[str] = []
    for name in text.split(","):
        name = name.lower() or "tcp"
        if name not in _PROTOCOLS:
            raise Usage(f'unrecognized protocol "{name}" in port mapping')
        if name not in names:
            names.append(name)
    return names


def _parse_range(text: str) -> tuple[int, int]:
    ends = text.split("-")
    if len(ends) > 2:
        raise Usage("invalid port format - port ranges are formatted as startPort-stopPort")
    if not ends[0]:
        raise Usage("port numbers cannot be negative")
    start = _parse_port(ends[0])
    if len(ends) == 1:
        return start, 1
    if not ends[1]:
        raise Usage("must provide ending number for port range")
    end = _parse_port(ends[1])
    if end <= start:
        raise Usage(
            "the end port of a range must be higher than the start port - "
            f"{end} is not higher than {start}"
        )
    return start, end - start + 1


def _parse_port(text: str) -> int:
    digits = text[1:] if text.startswith("+") else text
    if not digits.isascii() or not digits.isdecimal():
        raise Usage(f'invalid port number: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(digits)
    if not 1 <= number <= 65535:
        raise Usage(f"port numbers must be between 1 and 65535 (inclusive), got {number}")
    return number


def _refuse_overlaps(mappings: list[PortMapping]) -> None:
    taken: dict[tuple[str, str, int], PortMapping] = {}
    for mapping in mappings:
        if not mapping.host_port:
            continue
        for step in range(mapping.count):
            port = mapping.host_port + step
            if port > 65535:
                raise Usage(f"port range exceeds maximum allowable port number: {port}")
            key = (mapping.host_ip, mapping.protocol, port)
            if key in taken:
                raise Usage(
                    f"conflicting port mappings for host port {port} (protocol {mapping.protocol})"
                )
            taken[key] = mapping


def normal_address(text: str) -> str:
    """An address in its shortest form, empty where it is none."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            return _socket.inet_ntop(family, _socket.inet_pton(family, text))
        except (OSError, ValueError):
            continue
    return ""


# --- before the helper starts ---------------------------------------------------------------------------------------


def choose_host_ports(mappings: Iterable[PortMapping]) -> list[PortMapping]:
    """Give a free host port to every mapping without one; each stays free only until somebody else asks."""
    chosen: list[PortMapping] = []
    held: list[_socket.socket] = []
    try:
        for mapping in mappings:
            if mapping.host_port:
                chosen.append(mapping)
                continue
            for _ in range(100):
                bound = _bind_all(mapping.host_ip, 0, mapping.count, mapping.protocol)
                if bound is not None:
                    break
            else:
                raise Conflict(
                    f"no {mapping.count} free ports in a row for container port {mapping.container_port}"
                )
            first, sockets = bound
            held += sockets
            chosen.append(
                PortMapping(
                    mapping.host_ip, first, mapping.container_port, mapping.count, mapping.protocol
                )
            )
    finally:
        for one in held:
            one.close()
    return chosen


def refuse_sctp(mappings: Iterable[PortMapping]) -> None:
    """No helper carries it: neither pasta nor slirp4netns, nor Podman's own for networks."""
    if any(mapping.protocol == "sctp" for mapping in mappings):
        raise RootlessError(
            "sctp ports cannot be published without privileges: no network helper carries sctp",
            hint="publish tcp or udp, or share the host's network: --network host",
        )


def check_free(mappings: Iterable[PortMapping]) -> None:
    """Fail at once where a host port cannot be taken, with who holds it or what would allow it."""
    held: list[_socket.socket] = []
    try:
        for mapping in mappings:
            for step in range(mapping.count):
                held += _take(mapping.host_ip, mapping.host_port + step, mapping.protocol)
    finally:
        for one in held:
            one.close()


def _take(host_ip: str, port: int, protocol: str) -> list[_socket.socket]:
    sockets: list[_socket.socket] = []
    for address in (host_ip,) if host_ip else ("0.0.0.0", "::"):
        try:
            sockets.append(_bind(address, port, protocol))
        except OSError as error:
            if (
                not host_ip
                and address == "::"
                and error.errno
                in (
                    errno.EAFNOSUPPORT,
                    errno.EADDRNOTAVAIL,
                )
            ):
                continue  # a kernel without IPv6
            for one in sockets:
                one.close()
            raise refused(address, port, protocol, error) from error
    return sockets


def _bind(address: str, port: int, protocol: str) -> _socket.socket:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind = _socket.SOCK_DGRAM if protocol == "udp" else _socket.SOCK_STREAM
    one = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, 0)
    try:
        if family == _socket.AF_INET6:
            one.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if kind == _socket.SOCK_STREAM:
            # As the helpers do it: connections in TIME_WAIT do not keep a port.
            one.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        one.bind((address, port))
        if kind == _socket.SOCK_STREAM:
            one.listen(1)
    except BaseException:
        one.close()
        raise
    return one


def _bind_all(
    host_ip: str, port: int, count: int, protocol: str
) -> tuple[int, list[_socket.socket]] | None:
    """Bind `count` ports in a row on every address wanted; None where one of them is taken."""
    sockets: list[_socket.socket] = []
    try:
        for step in range(count):
            for address in (host_ip,) if host_ip else ("0.0.0.0", "::"):
                try:
                    one = _bind(address, port + step if port else 0, protocol)
                except OSError as error:
                    if (
                        address == "::"
                        and not host_ip
                        and error.errno
                        in (
                            errno.EAFNOSUPPORT,
                            errno.EADDRNOTAVAIL,
                        )
                    ):
                        continue
                    if error.errno == errno.EADDRINUSE or port:
                        raise _Taken from None
                    raise Conflict(
                        f"cannot use host address {address}: {error.strerror}"
                    ) from error
                sockets.append(one)
                port = port or int(one.getsockname()[1])
                if port + count > 65536:
                    raise _Taken
    except _Taken:
        for one in sockets:
            one.close()
        return None
    except BaseException:
        for one in sockets:
            one.close()
        raise
    return port, sockets


class _Taken(Exception):
    pass


def refused(address: str, port: int, protocol: str, error: OSError) -> RootlessError:
    """Why a host port cannot be taken, and what to do."""
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    if error.errno == errno.EACCES:
        start = unprivileged_start()
        return Conflict(
            f"cannot publish port {shown}/{protocol}: ports below {start} are privileged",
            hint=f"choose a port from {start} on, or ask for `sysctl net.ipv4.ip_unprivileged_port_start={port}`",
        )
    if error.errno == errno.EADDRINUSE:
        holder = find_holder(port, protocol)
        by = f" by {holder}" if holder else ""
        return Conflict(
            f"cannot publish port {shown}/{protocol}: address already in use{by}",
            hint=""
            if holder
            else "it belongs to another user: `ss -lntup` as root names the process",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Conflict(
            f"cannot publish port {shown}/{protocol}: {address} is no address of this host"
        )
    return Conflict(f"cannot publish port {shown}/{protocol}: {error.strerror}")


def unprivileged_start() -> int:
    """The first port that anybody may bind (sysctl net.ipv4.ip_unprivileged_port_start)."""
    try:
        with open(_PRIVILEGED, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def find_holder(port: int, protocol: str) -> str:
    """`PROGRAM (pid N)` of the process of ours that holds a port; empty where it is somebody else's."""
    inodes: set[str] = set()
    for family in ("", "6"):
        try:
            with open(f"/proc/net/{protocol}{family}") as file:
                for line in file.readlines()[1:]:
                    fields = line.split()
                    # State 0A is LISTEN; a bound UDP socket without a peer is in state 07.
                    if fields[3] in ("0A", "07") and int(fields[1].rpartition(":")[2], 16) == port:
                        inodes.add(f"socket:[{fields[9]}]")
        except (OSError, IndexError, ValueError):
            continue
    if not inodes:
        return ""
    for pid in os.listdir("/proc"):
        if not pid.isdecimal():
            continue
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    if os.readlink(f"/proc/{pid}/fd/{fd}") not in inodes:
                        continue
                except OSError:
                    continue
                with open(f"/proc/{pid}/comm", errors="replace") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue
    return ""
