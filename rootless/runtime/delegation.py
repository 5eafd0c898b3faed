"""A cgroup whose root is the container's: systemd inside makes cgroups of its own there (cgroups(7), delegation).

Where the container's root is a subordinate id, neither its files nor what it has made below are ours: a helper that is root
of all our ids gives them away and takes them back. The limits, the freezer and cgroup.kill stay ours.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

ROOT = "/sys/fs/cgroup"
_DELEGATED = "/sys/kernel/cgroup/delegate"
_FILES = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")


def is_writable(spec: dict[str, Any]) -> bool:
    """Whether a container may write to its cgroup: its hierarchy is mounted so."""
    return any(
        mount["destination"] == ROOT and "ro" not in mount.get("options", ())
        for mount in spec.get("mounts") or ()
    )


def hand_over(path: str, spec: dict[str, Any]) -> None:
    """Give a cgroup to the container's root, where that is not the caller."""
    from rootless.linux.idmap import to_container
    from rootless.linux.userns import fork_in_userns
    from rootless.runtime.idmap import default_idmap

    uid, gid = (_root(spec, key) for key in ("uidMappings", "gidMappings"))
    if uid < 0 or gid < 0 or uid == os.geteuid():
        return
    idmap = default_idmap()
    inner_uid, inner_gid = to_container(idmap.uids, uid), to_container(idmap.gids, gid)
    if inner_uid is None or inner_gid is None:
        return
    ids = (inner_uid, inner_gid)
    try:
        with open(_DELEGATED, encoding="ascii") as file:
            names: Iterable[str] = file.read().split()
    except OSError:
        names = _FILES

    def give() -> None:
        os.chown(path, *ids)
        for name in names:
            try:
                os.chown(f"{path}/{name}", *ids)
            except FileNotFoundError:
                continue  # of a controller that is not here

    fork_in_userns(idmap, give, flags=0).wait()


def _root(spec: dict[str, Any], key: str) -> int:
    """The host's number of the container's root; -1 without a map, or where it has no root."""
    for entry in spec["linux"].get(key) or ():
        if entry["containerID"] == 0:
            return int(entry["hostID"])
    return -1


def take_back(folders: list[str]) -> None:
    """Remove cgroups that the container's root has made, deepest first."""
    from rootless.linux.userns import fork_in_userns
    from rootless.runtime.idmap import default_idmap

    def remove() -> None:
        for folder in folders:
            try:
                os.rmdir(folder)
            except OSError:
                continue  # gone meanwhile

    fork_in_userns(default_idmap(), remove, flags=0).wait()


def unit_of(path: str) -> str:
    """The user's unit that a cgroup lies in, as systemd moves processes into it."""
    words = path.split("/")
    for word in words[:0:-1]:
        if word.endswith((".scope", ".service")):
            return "" if word.startswith("user@") else word
    return ""
