"""Kernel parameters that belong to a namespace, and how one is asked for (security case 24). Lean: on `run`'s path."""

from __future__ import annotations

from rootless.errors import Usage

# Sysctls that belong to a namespace, and which (sysctl(8), namespaces(7)); anything else would be the host's.
_IPC_SYSCTLS = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)
_UTS_SYSCTLS = ("kernel.domainname",)  # the other one is --hostname
_SYSCTL_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:"
)


def sysctl_namespace(name: str) -> str:
    """The kind of namespace that a sysctl belongs to, "" where it is the host's."""
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc"
    if name in _UTS_SYSCTLS:
        return "uts"
    if name.startswith("net.") and len(name) > 4:
        return "network"
    return ""


def parse_sysctl(text: str) -> tuple[str, str]:
    """Read `--sysctl NAME=VALUE`; only what a namespace owns, and one setting only (security case 24)."""
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        raise Usage(f"{text} is invalid, sysctl values must be in the form of KEY=VALUE")
    # sysctl(8) takes both separators; with slashes first, dots are part of a name: net/ipv4/conf/eth0.1/forwarding.
    if "/" in name and ("." not in name or name.index("/") < name.index(".")):
        name = name.replace(".", "\0").replace("/", ".").replace("\0", "/")
    if (
        not _SYSCTL_CHARACTERS.issuperset(name)
        or ".." in name
        or "//" in name
        or not sysctl_namespace(name)
    ):
        raise Usage(f"sysctl '{name}' is not allowed")
    if any(ord(c) < 32 and c != "\t" for c in value) or "+" in value:
        raise Usage(f"sysctl '{name}' is not allowed: bad character in its value")
    return name, value
