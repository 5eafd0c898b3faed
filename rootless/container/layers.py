"""A container's changes and its whole tree, read layer by layer and without a mount, running or not.

Walked by descriptors in the user namespace of the files: no link is followed (security case 14).
"""

from __future__ import annotations

import os

from rootless.container.filesystem import idmap_of, lowers_of
from rootless.container.options import CreateOptions
from rootless.container.roots import COPY
from rootless.errors import NotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine

    Changes = list[tuple[str, str]]

#: What the engine itself makes in every container, and no change of the user's; Podman's list.
_OURS = frozenset(
    (
        "/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/run",
        "/run/.containerenv", "/run/notify", "/run/secrets", "/sys",
    )
)  # fmt: skip


def layers_of(engine: Engine, record: dict[str, Any]) -> list[str]:
    """The folders that make up its tree, the topmost first."""
    options = CreateOptions.from_json(record["options"])
    folder = engine.containers.path(record["id"])
    if options.rootfs and not options.rootfs_overlay:
        return [options.image]
    if record.get("root") == COPY:
        return [f"{folder}/rootfs"]
    return [f"{folder}/upper", *lowers_of(engine, record)]


def diff(engine: Engine, text: str, other: str = "") -> Changes:
    """(A, C or D, path): what a container or image has changed, against `other` or else what it was made from."""
    from rootless.image.changed import layer_changes

    record, layers = _layers(engine, text)
    if other:
        _, others = _layers(engine, other)
        found = layer_changes(engine.images, layers + others, compare=len(layers))
    elif record is None:
        found = layer_changes(engine.images, layers)
    elif record.get("root") == COPY:
        found = layer_changes(engine.images, layers + lowers_of(engine, record), compare=1)
    elif len(layers) == 1:
        raise RootlessError(
            f"container {record['name']}: was made from --rootfs and has nothing to be compared with"
        )
    else:
        found = layer_changes(engine.images, layers)
    return [(kind, path) for kind, path in found if path not in _OURS]


def _layers(engine: Engine, text: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The container's record and layers, or those of an image of that name."""
    try:
        record = engine.containers.read(engine.containers.lookup(text))
    except NotFound:
        image = engine.images.find(text)
        if image is None:
            raise NotFound(f"{text} not found: layer not known") from None
        return None, engine.images.lowers(image)
    return record, layers_of(engine, record)


def export(engine: Engine, record: dict[str, Any], out: int) -> None:
    """Write the whole tree as a tar archive. Volumes and what is mounted are not in it, as with Podman."""
    from rootless.storage.unpack import Helper

    # A plain copy has the owners of its own map, layers those of the default one.
    idmap = idmap_of(engine, record) if record.get("root") == COPY else engine.idmap
    opened: list[int] = []
    with Helper(idmap) as helper:
        try:
            for folder in layers_of(engine, record):
                opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            helper.run("archive", [*opened, out], raw=False, exclude=[]).wait()
        finally:
            for fd in opened:
                os.close(fd)
