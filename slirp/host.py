"""What the host's routing tables say, read from /proc and ioctls: the addresses that pasta will give a container.

pasta copies the addresses of the interface with the first default route, once for IPv4 and once for IPv6; /etc/hosts is
written before pasta runs, so the same is worked out here.
"""

from __future__ import annotations

import _socket
import fcntl
import struct

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_RTF_UP = 0x1
_RTF_GATEWAY = 0x2
_RT_SCOPE_UNIVERSE = 0x00


class Uplink:
    """One address family's way out: interface, own addresses as (address, prefix length), gateway."""

    __slots__ = ("interface", "addresses", "gateway")

    def __init__(self, interface: str, addresses: list[tuple[str, int]], gateway: str) -> None:
        self.interface = interface
        self.addresses = addresses
        self.gateway = gateway


def uplink4() -> Uplink | None:
    """The interface of the default route with the lowest metric; None without one."""
    best: tuple[int, str, str] | None = None
    for line in _lines("/proc/net/route")[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        if not int(fields[3], 16) & _RTF_UP:
            continue
        metric = int(fields[6])
        if best is None or metric < best[0]:
            gateway = _socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
            best = (metric, fields[0], gateway)
    if best is None:
        return None
    _, name, gateway = best
    address = interface_address(name)
    if address is None:
        return None
    return Uplink(name, [address], "" if gateway == "0.0.0.0" else gateway)


def interface_address(name: str) -> tuple[str, int] | None:
    """The first IPv4 address of an interface of the current namespace."""
    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
    try:
        request = struct.pack("256s", name.encode())
        address = fcntl.ioctl(control.fileno(), _SIOCGIFADDR, request)[20:24]
        mask = fcntl.ioctl(control.fileno(), _SIOCGIFNETMASK, request)[20:24]
    except OSError:
        return None
    finally:
        control.close()
    return _socket.inet_ntoa(address), int.from_bytes(mask, "big").bit_count()


def local_address(except_for: tuple[str, ...] = ()) -> str:
    """The first IPv4 address of this host that is neither loopback nor excepted; empty for none."""
    for _, name in _socket.if_nameindex():
        found = interface_address(name)
        if found and found[0] not in except_for and not found[0].startswith(("127.", "169.254.")):
            return found[0]
    return ""


def uplink6() -> Uplink | None:
    """The same for IPv6."""
    best: tuple[int, str, str] | None = None
    for line in _lines("/proc/net/ipv6_route"):
        fields = line.split()
        if len(fields) < 10 or fields[0] != "0" * 32 or fields[1] != "00" or fields[9] == "lo":
            continue
        if not int(fields[8], 16) & _RTF_UP:
            continue
        metric = int(fields[5], 16)
        if best is None or metric < best[0]:
            via = _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex(fields[4]))
            best = (metric, fields[9], via if int(fields[8], 16) & _RTF_GATEWAY else "")
    if best is None:
        return None
    _, name, gateway = best
    addresses = []
    for line in _lines("/proc/net/if_inet6"):
        fields = line.split()
        if len(fields) == 6 and fields[5] == name and int(fields[3], 16) == _RT_SCOPE_UNIVERSE:
            address = _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex(fields[0]))
            addresses.append((address, int(fields[2], 16)))
    return Uplink(name, addresses, gateway) if addresses else None


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []
