"""Is the store what it claims to be? Reads every blob, layer and record again; mends what can be mended.

A layer is right when its recipe gives an archive with its diff ID: that reads every file of it. It is mended from its
blob, a blob by dropping it where the layer can be made into the same archive, a record's documents from the record.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.image.adopt import unpack_blob
from rootless.image.store import Image, ImageStore
from rootless.oci.digest import sha256
from rootless.oci.image import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.storage.unpack import Helper


class Finding:
    """One thing that is not as it should be, and whether it is mended now."""

    __slots__ = ("kind", "mended", "name", "problem")

    def __init__(self, kind: str, name: str, problem: str, mended: str = "") -> None:
        self.kind = kind  # blob, layer, image, name
        self.name = name
        self.problem = problem
        self.mended = mended

    def __str__(self) -> str:
        text = f"{self.kind} {self.name}: {self.problem}"
        return f"{text} ({self.mended})" if self.mended else text


def check(
    store: ImageStore,
    *,
    quick: bool = False,
    repair: bool = False,
    users: Mapping[str, list[str]] | None = None,
) -> list[Finding]:
    """Look at everything; with `repair`, mend it. Images that containers use are never removed."""
    found: list[Finding] = []
    with store.exclusive() if repair else store.hold(), store.helper() as helper:
        if not quick:
            _blobs(store, repair, found)
        _layers(store, helper, quick, repair, found)
        _images(store, repair, users or {}, found)
        _names(store, repair, found)
        if repair:
            store.layers.sweep(lambda: helper)
    return found


def _blobs(store: ImageStore, repair: bool, found: list[Finding]) -> None:
    for digest in list(store.blobs.all()):
        if store.blobs.is_intact(digest):
            continue
        mended = ""
        if repair:
            store.blobs.remove(digest)
            mended = "removed"
        found.append(Finding("blob", digest, "its content has another digest", mended))


def _layers(
    store: ImageStore, helper: Helper, quick: bool, repair: bool, found: list[Finding]
) -> None:
    for chain in list(store.layers.all()):
        problem = _layer_problem(store, helper, chain, quick)
        if not problem:
            continue
        mended = ""
        if repair:
            try:
                mended = _mend_layer(store, helper, chain)
            except (RootlessError, OSError) as error:
                problem = f"{problem}; mending it failed: {error}"
        found.append(Finding("layer", chain, problem, mended))


def _layer_problem(store: ImageStore, helper: Helper, chain: str, quick: bool) -> str:
    folder = store.layers.folder(chain)
    try:
        record = store.layers.record(chain)
    except (OSError, RootlessError) as error:
        return f"its record cannot be read: {error}"
    if not os.path.isdir(f"{folder}/diff"):
        return "its files are gone"
    if quick or record.get("spoiled"):
        return ""
    opened: list[int] = []
    try:
        for name, flags in (("diff", os.O_DIRECTORY), ("recipe", 0)):
            opened.append(os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC | flags))
        opened.append(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC))
        algorithm = record["diff_id"].partition(":")[0]
        result = helper.run("rebuild", opened, algorithm=algorithm).wait()
    except (OSError, RootlessError) as error:
        return f"its files are not what was unpacked: {error}"
    finally:
        for fd in opened:
            os.close(fd)
    return "" if result["diff_id"] == record["diff_id"] else "its files were changed"


def _mend_layer(store: ImageStore, helper: Helper, chain: str) -> str:
    """Unpack a layer again from its blob, where that is here and right."""
    for image in store.list():
        if chain not in image.layers:
            continue
        number = image.layers.index(chain)
        digest = layer_digest(store, image, number)
        if digest is None or not store.blobs.has(digest) or not store.blobs.is_intact(digest):
            continue
        store.layers.remove(chain, helper)
        parent = image.layers[number - 1] if number else ""
        if not unpack_blob(store, chain, parent, image.diff_ids[number], digest, helper):
            return ""
        return "unpacked again from its blob"
    return ""


def layer_digest(store: ImageStore, image: Image, number: int) -> str | None:
    """The digest of a layer's blob, where the image's manifest can be read."""
    from rootless.image.source import manifest_of

    try:
        return manifest_of(store, image).layers[number].digest
    except (OSError, RootlessError, IndexError):
        return None


def _images(
    store: ImageStore, repair: bool, users: Mapping[str, list[str]], found: list[Finding]
) -> None:
    for identity in store.ids():
        name = identity[:12]
        try:
            image = store.get(identity)
        except RootlessError as error:
            mended = ""
            if repair and not users.get(identity):
                os.unlink(f"{store.root}/records/{identity}")
                mended = "removed"
            found.append(Finding("image", name, str(error), mended))
            continue
        if image is None or image.read_only:
            continue
        _documents(store, image, repair, found)
        missing = [chain for chain in image.layers if not store.layers.has(chain)]
        # A layer that was found damaged and could not be mended counts as well.
        damaged = {one.name for one in found if one.kind == "layer" and not one.mended}
        missing += [chain for chain in image.layers if chain in damaged]
        if missing:
            keepers = users.get(identity, [])
            mended = ""
            if repair and not keepers:
                store.forget(image)
                mended = "removed; pull or load it again"
            problem = f"{len(missing)} of its layers are missing or damaged"
            if keepers:
                problem += f", and container {keepers[0][:12]} uses it"
            found.append(Finding("image", name, problem, mended))


def _documents(store: ImageStore, image: Image, repair: bool, found: list[Finding]) -> None:
    digest = image.record["config_digest"]
    if not store.blobs.has(digest):
        data = emit(image.config)
        mended = ""
        if repair and sha256(data) == digest:
            store.blobs.put(data)
            mended = "written again"
        found.append(Finding("image", image.id[:12], "its config is missing", mended))
    if not store.blobs.has(image.digest):
        mended = ""
        if repair and store.blobs.has(digest):
            _new_manifest(store, image)
            mended = "made again with another digest"
        found.append(Finding("image", image.id[:12], "its manifest is missing", mended))


def _new_manifest(store: ImageStore, image: Image) -> None:
    """A manifest of plain layers, which the store can always make."""
    from rootless.files import write_json
    from rootless.oci import manifest as documents

    config = image.config_bytes()
    data = emit(
        {
            "schemaVersion": 2,
            "mediaType": documents.OCI_MANIFEST,
            "config": {
                "mediaType": documents.OCI_CONFIG,
                "digest": image.record["config_digest"],
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": documents.OCI_LAYER,
                    "digest": diff_id,
                    "size": store.layers.record(chain)["size"],
                }
                for diff_id, chain in zip(image.diff_ids, image.layers, strict=True)
                if store.layers.has(chain)
            ],
        }
    )
    digest = store.blobs.put(data)
    record = {**image.record, "digest": digest, "digests": [digest]}
    write_json(f"{store.root}/records/{image.id}", record)
    image.record = record


def _names(store: ImageStore, repair: bool, found: list[Finding]) -> None:
    known = set(store.ids())
    for name, identity in store.own_names():
        if identity in known:
            continue
        mended = ""
        if repair:
            store.untag(name)
            mended = "removed"
        found.append(Finding("name", name, f"its image {identity[:12]} is gone", mended))


def drop_blobs(store: ImageStore) -> int:
    """Remove the blobs of layers whose plain archive can be made again; return the bytes that this frees."""
    freed = 0
    with store.exclusive():
        keep: set[str] = set()
        drop: set[str] = set()
        for image in store.list():
            if image.read_only:
                continue
            for number, chain in enumerate(image.layers):
                digest = layer_digest(store, image, number)
                if digest is not None:
                    (drop if store.layers.is_rebuildable(chain) else keep).add(digest)
        for digest in drop - keep:
            freed += store.blobs.remove(digest)
    return freed
