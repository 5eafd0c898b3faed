"""A container's changes as an image: its folder of changes becomes a layer on its image's layers.

The changes are packed and unpacked in one go, two workers of one helper with a pipe between: the archive exists only
on its way, its diff ID is known when it has passed.
"""

from __future__ import annotations

import contextlib
import os
import time

from rootless.errors import RootlessError
from rootless.image.collecting import Bringing
from rootless.image.source import enlarge_pipe
from rootless.oci import manifest as documents
from rootless.oci.digest import sha256
from rootless.oci.image import emit, rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rootless.image.store import Image, ImageStore
    from rootless.storage.unpack import Helper

OCI, DOCKER = "oci", "docker"
# What the runtime put into the container's root for itself; as buildah and docker do, not part of the image.
EXCLUDED = (
    "dev",
    "proc",
    "sys",
    "run/.containerenv",
    "run/secrets",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
)


class Request:
    """What to make of a container."""

    __slots__ = (
        "annotations",
        "author",
        "base",
        "config",
        "created_by",
        "exclude",
        "format",
        "is_whole",
        "message",
        "names",
        "squash",
        "upper",
    )

    def __init__(self, base: Image | None, upper: str, config: dict[str, Any]) -> None:
        self.base = base
        self.upper = upper
        # Whether that folder is the container's whole tree, and not just its changes.
        self.is_whole = False
        # The `config` part of the image's config.
        self.config = config
        self.names: list[str] = []
        self.author = ""
        self.message = ""
        self.created_by = ""
        self.format = OCI
        self.squash = False
        self.exclude: tuple[str, ...] = EXCLUDED
        self.annotations: dict[str, str] = {}


def commit(store: ImageStore, request: Request) -> Image:
    """Make the image; the container is paused or stopped, or its files may change under way."""
    store.make()
    base = request.base
    with store.helper() as helper, Bringing(store):
        diff_id, size = _layer(store, helper, request)
        created = rfc3339(time.time())
        document: dict[str, Any] = dict(base.config) if base is not None else {}
        for key in ("container", "container_config", "id", "parent"):
            document.pop(key, None)
        document["created"] = created
        document.setdefault("architecture", _architecture())
        document.setdefault("os", "linux")
        if request.author:
            document["author"] = request.author
        document["config"] = request.config
        entry: dict[str, Any] = {"created": created, "created_by": request.created_by}
        if request.author:
            entry["author"] = request.author
        name = base.names[0] if base is not None and base.names else ""
        comment = request.message or (f"FROM {name}" if name else "")
        if comment:
            entry["comment"] = comment
        if request.message and request.format == DOCKER:
            document["comment"] = request.message
        below: list[documents.Descriptor] = []
        diff_ids: list[str] = []
        history: list[dict[str, Any]] = []
        if base is not None and not request.squash:
            below, diff_ids, history = _base_layers(store, base)
        document["rootfs"] = {"type": "layers", "diff_ids": [*diff_ids, diff_id]}
        document["history"] = [*history, entry]
        config = emit(document)
        oci = request.format == OCI
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": documents.OCI_MANIFEST if oci else documents.DOCKER_MANIFEST,
            "config": {
                "mediaType": documents.OCI_CONFIG if oci else documents.DOCKER_CONFIG,
                "digest": sha256(config),
                "size": len(config),
            },
            "layers": [
                *(_retyped(layer, oci) for layer in below),
                {
                    "mediaType": documents.OCI_LAYER if oci else documents.DOCKER_LAYER,
                    "digest": diff_id,
                    "size": size,
                },
            ],
        }
        if request.annotations:
            manifest["annotations"] = request.annotations
        host = base is not None and base.is_host
        origins = base.origins if base is not None else ()
        return store.add_image(config, emit(manifest), request.names, origins=origins, host=host)


def _layer(store: ImageStore, helper: Helper, request: Request) -> tuple[str, int]:
    """Bring the changes into the store as a layer; return diff ID and size."""
    base = request.base
    below = [] if base is None else store.lowers(base)
    parent = base.layers[-1] if base is not None and base.layers else ""
    folders, raw, against = [request.upper], True, 0
    if request.squash:
        parent, raw = "", False
        if not request.is_whole:
            folders += below
    elif request.is_whole:
        folders += below
        raw, against = False, len(below)
    return pack_layer(
        store, helper, folders, parent, raw=raw, against=against, exclude=request.exclude
    )


def pack_layer(
    store: ImageStore,
    helper: Helper,
    folders: list[str],
    parent: str,
    *,
    raw: bool,
    against: int = 0,
    exclude: Iterable[str] = (),
) -> tuple[str, int]:
    """Make a layer of folders (topmost first), with `raw` of one folder of changes, with `against` of how the first
    ones differ from the last so many; return diff ID and size."""
    staging = store.layers.begin_new(helper)
    opened: list[int] = []
    reader, writer = os.pipe2(os.O_CLOEXEC)
    enlarge_pipe(reader)
    try:
        for folder in folders:
            opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        packing = helper.run(
            "archive", [*opened, writer], raw=raw, against=against, exclude=list(exclude)
        )
        os.close(writer)
        writer = -1
        staging.start(reader, stream=True, compression="")
        os.close(reader)
        reader = -1
        try:
            result = staging.finish()
        except RootlessError:
            # Where packing failed, unpacking has got half an archive: the first error is the reason. A broken pipe is
            # what packing sees of unpacking's, a full disk say.
            with contextlib.suppress(BrokenPipeError):
                packing.wait()
            raise
        if packing.wait()["size"] != result["size"]:
            raise RootlessError("the changes were not packed whole")
        staging.commit_new(parent, result)
    except BaseException:
        staging.abort()
        raise
    finally:
        for fd in (*opened, reader, writer):
            if fd >= 0:
                os.close(fd)
    return staging.diff_id, result["size"]


def _base_layers(
    store: ImageStore, base: Image
) -> tuple[list[documents.Descriptor], list[str], list[dict[str, Any]]]:
    from rootless.image.source import manifest_of

    return list(manifest_of(store, base).layers), list(base.diff_ids), list(base.history)


_OCI_OF = {
    documents.DOCKER_LAYER: documents.OCI_LAYER,
    documents.DOCKER_LAYER_GZIP: documents.OCI_LAYER_GZIP,
    documents.DOCKER_LAYER_ZSTD: documents.OCI_LAYER_ZSTD,
}
_DOCKER_OF = {value: key for key, value in _OCI_OF.items()}


def _retyped(layer: documents.Descriptor, oci: bool) -> dict[str, Any]:
    """A layer of the base under the new manifest's media type for it."""
    names = _OCI_OF if oci else _DOCKER_OF
    return {
        "mediaType": names.get(layer.media_type, layer.media_type),
        "digest": layer.digest,
        "size": layer.size,
    }


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(machine, machine)
