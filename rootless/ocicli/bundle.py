"""A bundle made ready: its config.json read and checked, and completed by what an unprivileged caller needs."""

from __future__ import annotations

import os

from rootless import log
from rootless.errors import RootlessError
from rootless.files import read_bytes
from rootless.oci.runtime import parse_spec
from rootless.runtime.capabilities import Sets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Bundle:
    """A bundle's folder, configuration and root."""

    __slots__ = ("path", "spec", "text", "rootfs")

    def __init__(self, path: str, config: str, first: Callable[[Any], None]) -> None:
        """`first` looks at the document before it is checked."""
        self.path = os.path.abspath(path or ".")
        file = os.path.join(self.path, config or "config.json")
        try:
            self.text = read_bytes(file)
        except OSError as error:
            raise RootlessError(f"open {file}: {os.strerror(error.errno or 0).lower()}") from None
        self.spec: dict[str, Any] = dict(parse_spec(self.text, file, first))
        self.rootfs = os.path.normpath(os.path.join(self.path, self.spec["root"]["path"]))
        if not os.path.isdir(self.rootfs):
            raise RootlessError(
                f"root.path: {self.rootfs}: "
                + (
                    "not a directory"
                    if os.path.exists(self.rootfs)
                    else "no such file or directory"
                )
            )

    def complete(self) -> None:
        """Add what the specification leaves to the runtime."""
        self._make_sources_absolute()
        if not any(
            one["type"] == "mount" for one in (self.spec.get("linux") or {}).get("namespaces") or ()
        ):
            raise RootlessError(
                "linux.namespaces: a mount namespace is missing, in which alone a user can make the root"
            )
        linux = self.spec["linux"] = dict(self.spec.get("linux") or {})
        add_user_namespace(linux, self.spec.get("process") or {})
        sets = Sets((self.spec.get("process") or {}).get("capabilities"))
        for name in sets.unknown:
            log.warn(f"process.capabilities: unknown capability {name} is left out")
        for name in sets.withheld():
            log.warn(f"process.capabilities.effective: {name} is left out: it is not permitted")

    def _make_sources_absolute(self) -> None:
        """What a bind mount names is below the bundle unless it begins at the root (config.md, "Mounts")."""
        entries = []
        for entry in self.spec.get("mounts") or ():
            source = entry.get("source") or ""
            binds = entry.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(
                entry.get("options") or ()
            )
            if binds and not source.startswith("/"):
                entry = {**entry, "source": os.path.join(self.path, source)}
            entries.append(entry)
        self.spec["mounts"] = entries


def add_user_namespace(linux: dict[str, Any], process: dict[str, Any]) -> None:
    """Without privilege there is no container but in a user namespace of its own; one without a map gets the caller's."""
    namespaces = list(linux.get("namespaces") or [])
    entry = next((one for one in namespaces if one["type"] == "user"), None)
    if entry is None:
        if os.geteuid() == 0 and not linux.get("uidMappings"):
            return
        linux["namespaces"] = [*namespaces, {"type": "user"}]
    elif entry.get("path"):
        return
    if linux.get("uidMappings") and linux.get("gidMappings"):
        return
    from rootless.runtime.idmap import default_idmap

    idmap = default_idmap()
    user = process.get("user") or {}
    for key, ranges, identity in (
        ("uidMappings", idmap.uids, user.get("uid", 0)),
        ("gidMappings", idmap.gids, user.get("gid", 0)),
    ):
        if not linux.get(key):
            linux[key] = [
                {"containerID": inside, "hostID": outside, "size": size}
                for inside, outside, size in _reaching(ranges, identity)
            ]


def _reaching(ranges: list[tuple[int, int, int]], identity: int) -> list[tuple[int, int, int]]:
    """The map; where only one id can be mapped, it is the one that the process will have."""
    if identity and sum(size for _, _, size in ranges) == 1:
        return [(identity, ranges[0][1], 1)]
    return ranges
