"""Is the store what it claims to be? Reads every blob, layer and record again; mends what can be mended.

A layer is right when its recipe gives an archive with its diff ID: that reads every file of it. It is mended from its
blob, which is here or fetched once more, a blob by dropping it where the layer can be made into the same archive, a
record's documents from the record.
"""

from __future__ import annotations

import json
import os

from rootless.errors import RootlessError
from rootless.image.adopt import unpack_blob, unpack_file
from rootless.image.store import Image, ImageStore
from rootless.oci.digest import is_hex, sha256
from rootless.oci.document import MANIFEST_MAX_BYTES
from rootless.oci.image import emit, parse_time
from rootless.storage.forms import on_host
from rootless.storage.layers import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rootless.storage.unpack import Helper


class Finding:
    """One thing that is not as it should be, and whether it is mended now."""

    __slots__ = ("kind", "mended", "name", "problem")

    def __init__(self, kind: str, name: str, problem: str, mended: str = "") -> None:
        self.kind = kind  # blob, layer, image, list, name
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
        _lists(store, repair, found)
        _records(store, repair, users or {}, found)
        if not quick:
            _blobs(store, repair, found)
        _layers(store, helper, quick, repair, found)
        _images(store, repair, users or {}, found)
        _names(store, repair, found)
        if repair:
            store.layers.sweep(lambda: helper)
    return found


def _records(
    store: ImageStore, repair: bool, users: Mapping[str, list[str]], found: list[Finding]
) -> None:
    """What the rest goes by: a record that cannot be read is put right or away before anything else."""
    for identity in store.own_ids():
        problem = ""
        try:
            image = store.get(identity)
            if image is not None:
                problem = _record_problem(image, identity)
        except (OSError, RootlessError) as error:
            problem = str(error)
        if not problem:
            continue
        mended = ""
        if repair:
            mended = _mend_record(store, identity, users)
        found.append(Finding("image", identity[:12], problem, mended))


def _lists(store: ImageStore, repair: bool, found: list[Finding]) -> None:
    """Manifest lists: their records, and the blobs of artifacts that are kept for them alone."""
    from rootless.image import lists

    try:
        names = [name for name in os.listdir(f"{store.root}/lists") if is_hex(name)]
    except FileNotFoundError:
        return
    for name in names:
        mended = ""
        try:
            one = lists.ManifestList(store, lists.read_list(store, name))
        except RootlessError as error:
            if repair:
                os.unlink(f"{store.root}/lists/{name}")
                mended = "removed; make the list again"
            found.append(Finding("list", name[:12], str(error), mended))
            continue
        gone = {entry for entry, blob in one.record["blobs"] if not store.blobs.has(blob)}
        for entry in sorted(gone):
            if repair:
                one.remove(entry)
                one.save()
                mended = "removed; add it again"
            problem = f"content of its entry {entry} is missing"
            found.append(Finding("list", one.name, problem, mended))


def _record_problem(image: Image, identity: str) -> str:
    try:
        if image.id != identity or image.record["config_digest"] != f"sha256:{identity}":
            return "its record is another image's"
        if image.layers != chain_ids(image.diff_ids):
            return "its record names other layers than its config"
        texts = [image.digest, *image.digests]
        if image.created != parse_time(image.config.get("created") or ""):
            return "its record has another time than its config"
        size: Any = image.record["size"]
        blobs, digest = image.store.blobs, f"sha256:{identity}"
        if blobs.has(digest) and blobs.is_intact(digest):
            if json.loads(image.config_bytes()) != image.config:
                return "its record has another config"
    except (KeyError, TypeError, AttributeError, RootlessError):
        return "its record is incomplete"
    if not all(isinstance(one, str) for one in texts):
        return "its record is incomplete"
    if not isinstance(size, int):
        return "its record is incomplete"
    try:
        layers = sum(image.store.layers.record(chain)["size"] for chain in image.layers)
        documents = (f"sha256:{identity}", image.digest)
        if all(image.store.blobs.is_intact(one) for one in documents):
            if size != layers + sum(image.store.blobs.size(one) or 0 for one in documents):
                return "its record has another size"
    except (OSError, RootlessError, KeyError):
        pass  # of what is missing or damaged there it is told elsewhere
    return ""


def _mend_record(store: ImageStore, identity: str, users: Mapping[str, list[str]]) -> str:
    """Write a record again out of the image's documents, as far as they are here."""
    if _write_record(store, identity):
        return "written again"
    if users.get(identity):
        return ""
    os.unlink(f"{store.root}/records/{identity}")
    return "removed; pull or load the image again"


def _write_record(store: ImageStore, identity: str) -> bool:
    """Whether there was a manifest for an image's config, and its record could be made of both."""
    config, path = f"sha256:{identity}", f"{store.root}/records/{identity}"
    for digest in store.blobs.all():
        if (store.blobs.size(digest) or 0) > MANIFEST_MAX_BYTES or not store.blobs.is_intact(
            digest
        ):
            continue
        try:
            data = store.blobs.read(digest)
            if json.loads(data)["config"]["digest"] != config:
                continue
            aside = f"{path}.tmp"
            os.rename(path, aside)
            try:
                store.add_image(store.blobs.read(config), data)
            except (OSError, RootlessError):
                os.rename(aside, path)
                continue
            os.unlink(aside)
            return True
        except (ValueError, TypeError, KeyError, OSError):
            continue
    return False


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
        algorithm = record["diff_id"].partition(":")[0]
        same_map = record.get("map") == on_host(helper.idmap).to_json()
        owners = same_map and record.get("force_mask") is None
        result = helper.run("verify", opened, algorithm=algorithm, owners=owners).wait()
    except (OSError, RootlessError) as error:
        return f"its files are not what was unpacked: {error}"
    finally:
        for fd in opened:
            os.close(fd)
    if result["diff_id"] != record["diff_id"]:
        return "its files were changed"
    problem: str = result["problem"]
    return f"its files were changed: {problem}" if problem else ""


def _mend_layer(store: ImageStore, helper: Helper, chain: str) -> str:
    """Unpack a layer again from its blob, where that is here and right."""
    for image in _readable(store):
        if chain not in image.layers:
            continue
        number = image.layers.index(chain)
        digest = layer_digest(store, image, number)
        if digest is None or image.read_only:
            continue
        parent, diff_id = image.layers[number - 1] if number else "", image.diff_ids[number]
        if store.blobs.has(digest) and store.blobs.is_intact(digest):
            store.layers.remove(chain, helper)
            unpack_blob(store, chain, parent, diff_id, digest, helper)
            return "unpacked again from its blob"
        fd = _fetched(store, image, number)
        if fd is not None:
            try:
                store.layers.remove(chain, helper)
                unpack_file(store, chain, parent, diff_id, fd, helper)
            finally:
                os.close(fd)
            return "fetched and unpacked again"
    return ""


def _fetched(store: ImageStore, image: Image, number: int) -> int | None:
    if not image.origins:
        return None
    from rootless.image.refetch import Refetch
    from rootless.image.source import manifest_of

    with Refetch(store, image) as refetch:
        return refetch.fetch(manifest_of(store, image).layers[number])[0]


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
    for image in _readable(store):
        name = image.id[:12]
        _documents(store, image, repair, found)
        missing = [chain for chain in image.layers if not store.layers.has(chain)]
        # A layer that was found damaged and could not be mended counts as well.
        damaged = {one.name for one in found if one.kind == "layer" and not one.mended}
        missing += [chain for chain in image.layers if chain in damaged]
        if missing:
            keepers = users.get(image.id, [])
            mended = ""
            if repair and not keepers:
                store.forget(image)
                mended = "removed; pull or load it again"
            problem = f"{len(missing)} of its layers are missing or damaged"
            if keepers:
                problem += f", and container {keepers[0][:12]} uses it"
            found.append(Finding("image", name, problem, mended))


def _readable(store: ImageStore) -> Iterator[Image]:
    """The own images whose records can be read; of the others it has been said."""
    for identity in store.own_ids():
        try:
            image = store.get(identity)
            if image is not None and not _record_problem(image, identity):
                yield image
        except (OSError, RootlessError):
            continue


def _documents(store: ImageStore, image: Image, repair: bool, found: list[Finding]) -> None:
    digest = image.record["config_digest"]
    if not store.blobs.has(digest):
        data = emit(image.config)
        mended = ""
        if repair and sha256(data) == digest:
            store.blobs.put(data)
            mended = "written again"
        elif repair and store.blobs.has(image.digest):
            mended = _fetch_config(store, image)
        found.append(Finding("image", image.id[:12], "its config is missing", mended))
    if not store.blobs.has(image.digest):
        mended = ""
        if repair and store.blobs.has(digest):
            if _write_record(store, image.id):
                mended = "another one is here"
            else:
                _new_manifest(store, image)
                mended = "made again with another digest"
        found.append(Finding("image", image.id[:12], "its manifest is missing", mended))


def _fetch_config(store: ImageStore, image: Image) -> str:
    from rootless.image.refetch import Refetch
    from rootless.image.source import manifest_of

    with Refetch(store, image) as refetch:
        fd, _ = refetch.fetch(manifest_of(store, image).config)
    if fd is None:
        return ""
    with open(fd, "rb") as file:
        store.blobs.put(file.read(), image.record["config_digest"])
    return "fetched again"


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
    layers = sum(store.layers.record(chain)["size"] for chain in image.layers)
    size = len(config) + len(data) + layers
    record = {**image.record, "digest": digest, "digests": [digest], "size": size}
    write_json(f"{store.root}/records/{image.id}", record)
    image.record = record


def _names(store: ImageStore, repair: bool, found: list[Finding]) -> None:
    known = set(store.ids())
    for file in store.damaged_names():
        mended = ""
        if repair:
            os.unlink(f"{store.root}/names/{file}")
            mended = "removed"
        found.append(Finding("name", repr(file), "it cannot be read", mended))
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
