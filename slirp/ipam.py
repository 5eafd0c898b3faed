"""Addresses of bridge networks: subnets, their gateways and the next free address. Pure arithmetic on integers;
`ipaddress` would cost 8 ms on the path of `run`."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable


class Subnet:
    """ADDRESS/PREFIX; ValueError for anything else."""

    __slots__ = ("version", "base", "prefix", "bits")

    def __init__(self, text: str, *, strict: bool = False) -> None:
        address, slash, prefix = text.partition("/")
        value = number(address)
        if value is None or not slash or not prefix.isdecimal():
            raise ValueError(f"invalid CIDR address: {text}")
        self.version = 6 if ":" in address else 4
        self.bits = 128 if self.version == 6 else 32
        self.prefix = int(prefix)
        if self.prefix > self.bits:
            raise ValueError(f"invalid CIDR address: {text}")
        self.base = value & ~self._host_mask()
        if strict and self.base != value:
            raise ValueError(f"{text} has host bits set")

    def _host_mask(self) -> int:
        return (1 << (self.bits - self.prefix)) - 1

    @property
    def last(self) -> int:
        return self.base | self._host_mask()

    def __str__(self) -> str:
        return f"{text(self.base, self.version)}/{self.prefix}"

    def __contains__(self, address: str) -> bool:
        value = number(address)
        return (
            value is not None
            and (6 if ":" in address else 4) == self.version
            and self.base <= value <= self.last
        )

    def overlaps(self, other: Subnet) -> bool:
        return self.version == other.version and self.base <= other.last and other.base <= self.last

    def address(self, offset: int) -> str:
        return text(self.base + offset, self.version)

    def usable(self) -> tuple[int, int]:
        """First and last address for hosts: neither the network's own nor IPv4's broadcast address."""
        if self.prefix >= self.bits - 1:
            return self.base, self.last
        return self.base + 1, self.last - (1 if self.version == 4 else 0)


def number(address: str) -> int | None:
    """An address as a number; None for what is no address."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    try:
        return int.from_bytes(_socket.inet_pton(family, address), "big")
    except (OSError, ValueError):
        return None


def text(value: int, version: int) -> str:
    """A number as an address of that version of IP."""
    if version == 6:
        return _socket.inet_ntop(_socket.AF_INET6, value.to_bytes(16, "big"))
    return _socket.inet_ntoa(value.to_bytes(4, "big"))


def allocate(
    subnet: Subnet, taken: Container[str], after: str = "", low: str = "", high: str = ""
) -> str:
    """The next free address behind `after`, going round; ValueError where the range is full.

    Going on instead of reusing the lowest keeps a name that somebody still has cached from reaching a stranger.
    """
    first, last = subnet.usable()
    first = max(first, number(low) or first) if low else first
    last = min(last, number(high) or last) if high else last
    previous = number(after) if after else None
    start = first if previous is None or not first <= previous < last else previous + 1
    # No more than one round, and never a walk through a whole IPv6 subnet.
    for span in ((start, last), (first, start - 1)):
        for value in range(span[0], min(span[1], span[0] + 200_000) + 1):
            address = text(value, subnet.version)
            if address not in taken:
                return address
    raise ValueError(f"no free address left in {subnet}")


def free_subnet(base: Subnet, size: int, used: Iterable[Subnet]) -> Subnet | None:
    """The first subnet of `size` bits in `base` that overlaps none of `used`."""
    occupied = [other for other in used if other.overlaps(base)]
    candidate: Subnet | None = Subnet(f"{base.address(0)}/{size}")
    while candidate is not None and candidate.last <= base.last:
        hit = next((other for other in occupied if other.overlaps(candidate)), None)
        if hit is None:
            return candidate
        # Jump behind what is in the way, to the next boundary of the wanted size.
        step = 1 << (candidate.bits - size)
        following = (hit.last // step + 1) * step
        if following >> candidate.bits:
            return None
        candidate = Subnet(f"{text(following, base.version)}/{size}")
    return None
