"""The rules of the networks' namespace, as one nftables script that replaces the ones before it in one step.

Everything is written anew at each change: a text that follows from the state is testable, a chain of edits is not.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from slirp.process import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TABLE = "rootless"


class Zone:
    """A bridge as the firewall sees it."""

    __slots__ = ("bridge", "subnets", "internal", "isolate")

    def __init__(self, bridge: str, subnets: Sequence[str], internal: bool, isolate: str) -> None:
        self.bridge = bridge
        self.subnets = list(subnets)
        self.internal = internal
        self.isolate = isolate  # "", "true" or "strict"


class Forward:
    """A port that a helper accepts for a container: what arrives for `inner` goes to `address`:`port`."""

    __slots__ = ("protocol", "inner", "address", "port")

    def __init__(self, protocol: str, inner: int, address: str, port: int) -> None:
        self.protocol = protocol
        self.inner = inner
        self.address = address
        self.port = port


def ruleset(
    zones: Iterable[Zone], forwards: Iterable[Forward], doors: Iterable[tuple[str, int]] = ()
) -> str:
    """The script. `doors`: the interfaces through which published ports come in, each with its routing mark."""
    zones = list(zones)
    lines = [
        f"table inet {TABLE}",
        f"flush table inet {TABLE}",
        f"table inet {TABLE} {{",
        "  chain forward {",
        "    type filter hook forward priority filter; policy accept;",
    ]
    for zone in zones:
        if zone.internal or zone.isolate == "strict":
            others = [other for other in zones if other is not zone]
            if zone.internal:
                # Nothing crosses the border of an internal network but what was asked for from inside a bridge.
                lines.append(f'    iifname "{zone.bridge}" oifname != "{zone.bridge}" drop')
                lines.append(f'    oifname "{zone.bridge}" iifname != "{zone.bridge}" drop')
            else:
                for other in others:
                    lines.append(f'    iifname "{zone.bridge}" oifname "{other.bridge}" drop')
                    lines.append(f'    iifname "{other.bridge}" oifname "{zone.bridge}" drop')
    isolated = [zone.bridge for zone in zones if zone.isolate]
    for bridge in isolated:
        for other_bridge in isolated:
            if other_bridge != bridge:
                lines.append(f'    iifname "{bridge}" oifname "{other_bridge}" drop')
    lines += ["  }", "  chain postrouting {", "    type nat hook postrouting priority srcnat;"]
    # What a helper passes on from the host's own loopback comes from ours, which no container could answer.
    lines.append('    oifname != "lo" ip saddr 127.0.0.0/8 masquerade')
    for zone in zones:
        if zone.internal:
            continue
        for subnet in zone.subnets:
            family = "ip6" if ":" in subnet else "ip"
            lines.append(
                f'    {family} saddr {subnet} {family} daddr != {subnet} oifname != "{zone.bridge}" masquerade'
            )
    lines.append("  }")
    maps: dict[tuple[str, str], list[str]] = {}
    for forward in forwards:
        family = "ip6" if ":" in forward.address else "ip"
        maps.setdefault((family, forward.protocol), []).append(
            f"{forward.inner} : {forward.address} . {forward.port}"
        )
    doors = list(doors)
    door_names = ", ".join(f'"{name}"' for name, _ in doors)
    if maps and doors:
        destination = {
            (
                family,
                protocol,
            ): f"{family_guard(family)} dnat {family} to {protocol} dport map {{ {', '.join(items)} }}"
            for (family, protocol), items in maps.items()
        }
        lines += ["  chain prerouting {", "    type nat hook prerouting priority dstnat;"]
        lines += [f"    iifname {{ {door_names} }} {rule}" for rule in destination.values()]
        lines += ["  }", "  chain output {", "    type nat hook output priority -100;"]
        # Not for IPv6: a packet from ::1 cannot be made to leave by another interface.
        lines += [
            f'    oifname "lo" {rule}'
            for (family, _), rule in destination.items()
            if family == "ip"
        ]
        lines += ["  }", "  chain marks {", "    type filter hook prerouting priority mangle;"]
        # Answers leave by the door the question came in by, so that the client's address need not be changed.
        lines += [f'    iifname "{name}" ct mark set {mark}' for name, mark in doors]
        lines += [f"    iifname != {{ {door_names} }} ct mark != 0 meta mark set ct mark", "  }"]
    lines.append("}")
    return "\n".join(lines) + "\n"


def family_guard(family: str) -> str:
    return "meta nfproto ipv6" if family == "ip6" else "meta nfproto ipv4"


def find() -> str:
    program = find_program("nft")
    if program is None:
        raise RootlessError(
            "networks need nft, which is not installed", hint="install the package nftables"
        )
    return program


def apply(program: str, script: str) -> None:
    """Load a script in the current network namespace."""
    reads, writes = os.pipe2(os.O_CLOEXEC)
    answers, answer = os.pipe2(os.O_CLOEXEC)
    pid = os.posix_spawn(
        program,
        [program, "-f", "-"],
        {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reads, 0),
            (os.POSIX_SPAWN_DUP2, answer, 1),
            (os.POSIX_SPAWN_DUP2, answer, 2),
        ],
    )
    os.close(reads)
    os.close(answer)
    try:
        view = memoryview(script.encode())
        try:
            while view:
                view = view[os.write(writes, view) :]
        except BrokenPipeError:
            pass
        os.close(writes)
        words = b""
        while chunk := os.read(answers, 4096):
            words += chunk
    finally:
        os.close(answers)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        reason = " ".join(words.decode(errors="replace").split())[:300]
        raise RootlessError(f"nft refused the networks' rules (status {status}): {reason}")
