"""A container's root file system seen by the engine: its layers, its id map, and the folder of its own changes."""

from __future__ import annotations

from rootless.container.options import CreateOptions
from rootless.linux.idmap import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine


def idmap_of(engine: Engine, record: dict[str, Any]) -> IdMap:
    """The map of the user namespace that the container's files belong to."""
    return IdMap.from_json(record["idmap"]) if record.get("idmap") else engine.idmap


def upper_of(engine: Engine, record: dict[str, Any]) -> str:
    """The folder of its own changes; "" where it has none (`--rootfs DIR`)."""
    options = CreateOptions.from_json(record["options"])
    if options.rootfs and not options.rootfs_overlay:
        return ""
    return f"{engine.containers.path(record['id'])}/upper"


def lowers_of(engine: Engine, record: dict[str, Any]) -> list[str]:
    """The folders below it, the topmost first: the image's layers, or the folder of `--rootfs`."""
    from rootless.container.facts import image_of

    options = CreateOptions.from_json(record["options"])
    if options.rootfs:
        return [options.image]
    image, _ = image_of(engine, record)
    return engine.images.lowers(image)
