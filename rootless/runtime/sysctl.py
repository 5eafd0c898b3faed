"""Which kernel parameters a container may have of its own."""

from __future__ import annotations

from rootless.errors import SetupError


def check_sysctl(key: str, own_namespaces: frozenset[str]) -> None:
    """Only what belongs to a namespace of the container may be set (security case 24)."""
    name = key.replace("/", ".")
    if not key or not all(c.isalnum() or c in "._-/" for c in key) or ".." in key:
        raise SetupError(f"sysctl {key!r}: not a sysctl name", stage="sysctl")
    if name.startswith("net."):
        if "network" not in own_namespaces:
            raise SetupError(
                f"sysctl {key}: the container has no network namespace of its own", stage="sysctl"
            )
    elif name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or name == "kernel.sem":
        if "ipc" not in own_namespaces:
            raise SetupError(
                f"sysctl {key}: the container has no ipc namespace of its own", stage="sysctl"
            )
    elif name in ("kernel.hostname", "kernel.domainname"):
        if "uts" not in own_namespaces or name == "kernel.hostname":
            raise SetupError(f"sysctl {key}: set --hostname instead", stage="sysctl")
    else:
        raise SetupError(
            f"sysctl {key}: belongs to no namespace, so it is the whole host's", stage="sysctl"
        )
