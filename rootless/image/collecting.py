"""What no image needs any more: its layers and blobs, and what killed commands have left."""

from __future__ import annotations

import json
import os
import time

from rootless.files import read_json
from rootless.oci.digest import is_digest
from rootless.storage.parallel import run_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.image.store import Image, ImageStore
    from rootless.storage.unpack import Helper

# Layers that are removed at once: most of it is waiting for the file system.
_REMOVERS = 4
_UNFINISHED_S = 60
# For so long a broken fetch can be gone on with.
_PARTIAL_S = 24 * 3600


def collect(
    store: ImageStore,
    keep: Iterable[str] = (),
    *,
    block: bool = False,
    copies: bool = False,
    partial: bool = False,
) -> int:
    """Remove layers and blobs that no record needs; return the freed blob bytes.

    `keep` names the images that containers use: of those, former host images live on. Where others are at work on
    the store it is left to the next command, unless `block`. With `copies`, what is here of additional stores'
    images (image/adopt.py) goes as well, unless containers use it; with `partial`, what broken pulls left today.
    """
    lock = store.exclusive(block=block)
    if not lock.acquire():
        return 0
    helper: list[Helper] = []

    def get_helper() -> Helper:
        if not helper:
            helper.append(store.helper())
        return helper[0]

    try:
        used = set(keep)
        chains: set[str] = set()
        blobs: set[str] = set()
        for image in store.list():
            if image.read_only:
                if not copies or image.id in used:
                    chains.update(image.layers)
                continue
            if image.is_host and not image.names and image.id not in used:
                store.forget(image)  # the host's /etc as it was before
                continue
            chains.update(image.layers)
            blobs.update(_blobs_of(store, image))
        blobs.update(_listed_blobs(store))
        freed = 0
        for digest in list(store.blobs.all()):
            if digest not in blobs:
                freed += store.blobs.remove(digest)
        unused = [chain for chain in store.layers.all() if chain not in chains]
        if unused:
            worker = get_helper()
            run_all(unused, lambda chain: store.layers.remove(chain, worker), _REMOVERS)
        store.layers.sweep(get_helper)
        store.blobs.sweep(0 if partial else _PARTIAL_S)
        _sweep_unfinished(store)
        return freed
    finally:
        for one in helper:
            one.close()
        lock.release()


def remove_unused(store: ImageStore, chains: Iterable[str]) -> None:
    """Remove layers that a failed command brought, as far as no image has them meanwhile."""
    brought = [chain for chain in chains if store.layers.is_own(chain)]
    lock = store.exclusive(block=False)
    if not brought or not lock.acquire():
        return  # others are at work: the next collect() does it
    try:
        used = {chain for image in store.list() for chain in image.layers}
        with store.helper() as helper:
            for chain in reversed(brought):
                if chain not in used:
                    store.layers.remove(chain, helper)
    finally:
        lock.release()


def _sweep_unfinished(store: ImageStore) -> None:
    """Remove small files that somebody was killed over; writing one takes no minute."""
    limit = time.time() - _UNFINISHED_S
    for folder in ("names", "records", "blobs/sha256", "blobs/sha512"):
        try:
            files = list(os.scandir(f"{store.root}/{folder}"))
        except FileNotFoundError:
            continue
        for file in files:
            try:
                if file.name.endswith(".tmp") and file.stat().st_mtime < limit:
                    os.unlink(file.path)
            except FileNotFoundError:
                continue


def _listed_blobs(store: ImageStore) -> set[str]:
    """The blobs that manifest lists keep; image/lists.py."""
    try:
        names = os.listdir(f"{store.root}/lists")
    except FileNotFoundError:
        return set()
    records = [read_json(f"{store.root}/lists/{name}") for name in names if ".tmp" not in name]
    return {blob for record in records for _, blob in record["blobs"]}


def _blobs_of(store: ImageStore, image: Image) -> set[str]:
    found = {image.record["config_digest"], *image.digests}
    for digest in image.digests:
        try:
            manifest = json.loads(store.blobs.read(digest))
        except (FileNotFoundError, ValueError):
            continue
        if isinstance(manifest, dict):
            for layer in manifest.get("layers") or ():
                if isinstance(layer, dict) and is_digest(layer.get("digest")):
                    found.add(layer["digest"])
    return found
