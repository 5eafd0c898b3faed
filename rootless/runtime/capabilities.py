"""Capabilities: their names, Podman's arithmetic with them, and the steps in which init gives up what it must not keep.

capabilities(7); runtime-spec config.md, `process.capabilities`. Nothing here but `known` opens a file, so that init may
use a `Sets` after the change of root.
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.linux.prctl import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_KEEPCAPS,
    capget,
    capset,
    prctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# By number: linux/capability.h.
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}
# Podman's default_capabilities.
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
_ALL = "ALL"
_MAX = 63


# arithmetic


def known() -> list[str]:
    """Every capability that this kernel has, and with it each new user namespace's root."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return list(NAMES[: int(file.read()) + 1])


def normalize(names: Iterable[str]) -> list[str]:
    """Full upper-case names, or ALL, for what a user may write: `net_raw`, `CAP_NET_RAW`, `all`."""
    full = []
    for name in names:
        name = name.upper()
        if name != _ALL:
            if not name.startswith("CAP_"):
                name = f"CAP_{name}"
            if name not in NUMBERS:
                raise RootlessError(f'"{name}": unknown capability')
        full.append(name)
    return full


def merge(base: Iterable[str], adds: Iterable[str], drops: Iterable[str]) -> list[str]:
    """Podman's arithmetic of --cap-add and --cap-drop upon a base; sorted where anything is changed."""
    held, added, dropped = normalize(base), normalize(adds), normalize(drops)
    if not added and not dropped:
        return held
    if _ALL in dropped:
        if _ALL in added:
            raise RootlessError("adding all caps and removing all caps not allowed")
        return sorted(set(added))
    if _ALL in added:
        held, added = known(), []
    for name in added:
        if name in dropped:
            raise RootlessError(f'capability "{name}" cannot be dropped and added')
    return sorted((set(held) | set(added)) - set(dropped))


def process_sets(
    base: Iterable[str],
    adds: Iterable[str],
    drops: Iterable[str],
    *,
    privileged: bool = False,
    is_root: bool = True,
) -> dict[str, list[str]]:
    """The `process.capabilities` of a container or exec session.

    A process that is not root gets in effect only what was asked for by name (security case 20); ambient, so that it
    outlives execve. That alone needs an inheritable set, which is empty otherwise (case 19).
    """
    adds = list(adds)
    here = known()
    bounding = here if privileged else [name for name in merge(base, adds, drops) if name in here]
    if is_root:
        return {
            "bounding": bounding,
            "effective": bounding,
            "permitted": bounding,
            "inheritable": [],
            "ambient": [],
        }
    asked = [name for name in merge((), adds, ()) if name in bounding]
    return {
        "bounding": bounding,
        "effective": asked,
        "permitted": asked,
        "inheritable": asked,
        "ambient": asked,
    }


# sets


def mask(names: Iterable[str]) -> int:
    """The bit mask of `names`; unknown ones are left out, as the runtime-spec wants it."""
    bits = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is not None:
            bits |= 1 << number
    return bits


def names_of(bits: int) -> list[str]:
    """The names of a mask's bits, as /proc/PID/status gives them; a bit without a name by its number."""
    return [
        NAMES[number] if number < len(NAMES) else f"CAP_{number}"
        for number in range(_MAX + 1)
        if bits >> number & 1
    ]


class Sets:
    """The five sets of a process to be, as masks, and the steps to them.

    The order: `drop_bounding` while CAP_SETPCAP is there, `keep` before the change of user, `lower` and then `apply`
    after it.
    """

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted", "unknown")

    def __init__(self, document: dict[str, Any] | None) -> None:
        """From `process.capabilities`; a process without that has no capabilities at all."""
        document = document or {}
        self.bounding = mask(document.get("bounding") or ())
        self.effective = mask(document.get("effective") or ())
        self.permitted = mask(document.get("permitted") or ())
        self.inheritable = mask(document.get("inheritable") or ())
        self.ambient = mask(document.get("ambient") or ())
        # For a warning: what cannot be granted is no error (runtime-spec, config.md).
        self.unknown = sorted(
            {name for names in document.values() for name in names or () if name not in NUMBERS}
        )

    def withheld(self) -> list[str]:
        """Names that shall be effective and cannot be, since they are not permitted."""
        missing = self.effective & ~self.permitted
        return [name for name, number in NUMBERS.items() if missing >> number & 1]

    def drop_bounding(self) -> None:
        """Take what is not in it from the bounding set, for good and for every later program."""
        for number in range(_MAX + 1):
            if not self.bounding >> number & 1:
                try:
                    prctl(PR_CAPBSET_DROP, number)
                except OSError as error:
                    if error.errno != 22:  # EINVAL: this kernel's last one was before
                        raise
                    return

    def keep(self) -> None:
        """Keep the permitted set over the change from root to another user."""
        prctl(PR_SET_KEEPCAPS, 1)

    def lower(self) -> None:
        """Act with no more than the process will have, while what is permitted stays for a filter to be loaded."""
        held = capget()[1]
        capset(self.effective & self.permitted & held, held, 0)

    def apply(self) -> None:
        """Set all others. What this process does not hold itself it cannot grant, and leaves out."""
        held = capget()[1]
        permitted = self.permitted & held
        inheritable = self.inheritable & held
        # Ambient ones of before would be lost or kept by the kernel according to what else changes: begin with none.
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
        capset(self.effective & permitted, permitted, inheritable)
        ambient = self.ambient & permitted & inheritable
        for number in range(_MAX + 1):
            if ambient >> number & 1:
                prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
