"""The rules of the networks' namespace, as one nftables script that replaces the ones before it in one step.

Everything is written anew at each change: a text that follows from the state is testable, a chain of edits is not.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from slirp.divert import ASKED, MARK
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


def ruleset(zones: Iterable[Zone]) -> str:
    """The script."""
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
    for zone in zones:
        if zone.internal:
            continue
        for subnet in zone.subnets:
            family = "ip6" if ":" in subnet else "ip"
            lines.append(
                f'    {family} saddr {subnet} {family} daddr != {subnet} oifname != "{zone.bridge}" masquerade'
            )
    # What a relay of published ports sends under its client's address; see divert.py.
    lines += [
        "  }",
        "  chain asked {",
        "    type filter hook output priority mangle;",
        f"    meta mark {ASKED} ct mark set meta mark",
        "  }",
        "  chain answered {",
        "    type filter hook prerouting priority mangle;",
        f"    ct mark {ASKED} meta mark set {MARK}",
        "  }",
    ]
    lines.append("}")
    return "\n".join(lines) + "\n"


def find() -> str:
    """The program nft; RootlessError where it is not installed."""
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
