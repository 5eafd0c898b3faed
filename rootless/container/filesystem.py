"""A container's root file system seen by the engine: its layers, its id map, and the folder of its own changes."""

from __future__ import annotations

import os

from rootless.container.options import CreateOptions
from rootless.linux.idmap import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.runtime.rootfs import Root


def idmap_of(engine: Engine, record: dict[str, Any]) -> IdMap:
    """The map of the user namespace that the container's files belong to."""
    return IdMap.from_json(record["idmap"]) if record.get("idmap") else engine.idmap


def lowers_of(engine: Engine, record: dict[str, Any]) -> list[str]:
    """The folders below it, the topmost first: the image's layers, or the folder of `--rootfs`."""
    from rootless.container.facts import image_of

    options = CreateOptions.from_json(record["options"])
    if options.rootfs:
        return [options.image]
    image, _ = image_of(engine, record)
    return engine.images.lowers(image)


def own_root(engine: Engine, record: dict[str, Any]) -> Root:
    """The root for a mount of our own, outside of any start."""
    from rootless.container import roots

    options = CreateOptions.from_json(record["options"])
    # A `volatile` overlay cannot be mounted a second time.
    options.rm = False
    return roots.root_of(engine, record, lowers_of(engine, record), options)


def binds_of(engine: Engine, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The container's bind mounts and plain volumes as mount entries, the outermost first.

    What has no place on the host (tmpfs) is left out: a stopped container has none of it.
    """
    if not record.get("mounts"):
        return []
    from rootless.container.volumes import resolve

    found = []
    for mount in resolve(engine, record):
        source = mount.get("path") or (mount["source"] if mount["type"] == "bind" else "")
        if mount["type"] in ("bind", "volume") and source and os.path.exists(source):
            words = ["rbind", "ro" if "ro" in mount["options"] else "rw"]
            entry: dict[str, Any] = {
                "destination": mount["destination"],
                "source": source,
                "options": words,
            }
            if mount.get("subpath"):
                entry["rootless"] = {"subpath": mount["subpath"]}
            found.append(entry)
    found.sort(key=lambda entry: entry["destination"].count("/"))
    return found
