"""Layers that cannot be used where they lie, unpacked again into the user's own store.

An additional store's files belong to ids that this user's containers do not have, and layers of before a change of the
sub-id ranges to ids that are no longer the user's. Their blob, or the archive made again from the files, is unpacked
with the map of now; the layer in the own store is then found first.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.storage.forms import MASKED, STRANGE, form_of, is_extended, on_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless.image.source import LayerSource
    from rootless.image.store import Image, ImageStore
    from rootless.storage.layers import LayerStore
    from rootless.storage.unpack import Helper


def adopt(store: ImageStore, image: Image, chains: Iterable[str]) -> None:
    """Have an image's layers of additional stores in the own one as well."""
    from rootless.image.source import layers_of

    wanted = set(chains)
    with store.hold(), store.helper() as helper:
        store.make()
        for number, layer in enumerate(layers_of(store, image)):
            if layer.chain in wanted:
                parent = image.layers[number - 1] if number else ""
                _adopt(store, image, layer, parent, helper)


def _adopt(
    store: ImageStore, image: Image, layer: LayerSource, parent: str, helper: Helper
) -> None:
    digest = layer.descriptor.digest
    if store.blobs.has(digest) and os.access(store.blobs.path(digest), os.R_OK):
        unpack_blob(store, layer.chain, parent, layer.diff_id, digest, helper)
        return
    staging = store.layers.begin(layer.chain, parent, layer.diff_id, helper, own=True)
    if staging is None:
        return
    try:
        reader, rebuilding = layer.rebuild(helper)
        try:
            staging.start(reader, stream=True)
        finally:
            os.close(reader)
        result = staging.finish()
        rebuilding.wait()
        staging.commit(result)
    except PermissionError as error:
        staging.abort()
        raise RootlessError(
            f"image {image.id[:12]}: its layers in {store.layers.folder(layer.chain)} cannot be read",
            hint=fill_hint(store.layers.folder(layer.chain)),
        ) from error
    except BaseException:
        staging.abort()
        raise


def unpack_blob(
    store: ImageStore, chain: str, parent: str, diff_id: str, digest: str, helper: Helper
) -> bool:
    """Unpack a blob into the own store; False where the layer is there meanwhile."""
    staging = store.layers.begin(chain, parent, diff_id, helper, own=True)
    if staging is None:
        return False
    fd = store.blobs.open(digest)
    try:
        staging.start(fd, size=os.fstat(fd).st_size)
        staging.commit(staging.finish())
    except BaseException:
        staging.abort()
        raise
    finally:
        os.close(fd)
    return True


def fill_hint(folder: str) -> str:
    """How an administrator fills a store that every user can use."""
    root = f"{folder}/".partition("/images/")[0]
    return f"a store for all is filled with `sudo rootless --root {root} --storage-opt force_mask=shared pull IMAGE`"


def check_own(store: ImageStore, image: Image, odd: Mapping[str, str]) -> None:
    """Refuse an image with layers of before a change of the sub-id ranges: their files belong to others now."""
    old = [chain for chain, form in odd.items() if form == STRANGE and store.layers.is_own(chain)]
    if old:
        raise RootlessError(
            f"image {image.id[:12]}: {len(old)} of its layers were unpacked with other subordinate ids than this user has now",
            hint="`rootless system migrate` unpacks them again",
        )


class Migrated:
    """What a migration did to the layers of the store."""

    __slots__ = ("left", "lost", "unpacked")

    def __init__(self) -> None:
        self.unpacked = 0
        # Names of the images that have to be pulled again.
        self.lost: list[str] = []
        # Folders with files of ids that this user has no longer.
        self.left: list[str] = []


def migrate(store: ImageStore, users: Mapping[str, list[str]]) -> Migrated:
    """Unpack every own layer of another map again; where that cannot be done the image is to be pulled again."""
    from rootless.image.check import layer_digest

    done = Migrated()
    layers = store.layers
    own = on_host(layers.idmap())
    with store.exclusive():
        odd = {chain for chain in layers.all() if _is_outdated(layers, chain, own)}
        if not odd:
            return done
        with store.helper() as helper:
            for image in store.list():
                for number, chain in enumerate(image.layers):
                    if chain not in odd:
                        continue
                    digest = layer_digest(store, image, number)
                    if digest is None or not store.blobs.has(digest):
                        continue
                    _set_aside(store, chain, helper, done)
                    odd.discard(chain)
                    parent = image.layers[number - 1] if number else ""
                    done.unpacked += unpack_blob(
                        store, chain, parent, image.diff_ids[number], digest, helper
                    )
            for chain in odd:
                if form_of(layers, chain, own) == STRANGE:
                    _set_aside(store, chain, helper, done)
        for image in store.list():
            if not image.read_only and any(chain in odd for chain in image.layers):
                missing = [chain for chain in image.layers if not layers.has(chain)]
                if missing:
                    done.lost += image.names or [image.id[:12]]
                    if not users.get(image.id):
                        store.forget(image)
    return done


def _is_outdated(layers: LayerStore, chain: str, own: object) -> bool:
    from rootless.linux.idmap import IdMap

    assert isinstance(own, IdMap)
    form = form_of(layers, chain, own)
    if form == MASKED:
        return False
    made = layers.record(chain).get("map")
    return form == STRANGE or (made is not None and is_extended(own, IdMap.from_json(made)))


def _set_aside(store: ImageStore, chain: str, helper: Helper, done: Migrated) -> None:
    """Take a layer away, as far as its files may be removed; folders of ids that are gone stay for the administrator."""
    from rootless.storage.layers import clear, folder_name

    name = folder_name(chain)
    aside = f"{store.root}/unmapped"
    os.makedirs(aside, mode=0o700, exist_ok=True)
    target = f"{aside}/{name}-{os.getpid()}"
    os.rename(f"{store.layers.root}/{name}", target)
    try:
        clear(target, helper)
    except (OSError, RootlessError):
        done.left.append(target)
    else:
        try:
            os.rmdir(aside)
        except OSError:
            pass
