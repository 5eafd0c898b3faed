"""Layers that cannot be used where they lie, unpacked again into the user's own store.

An additional store's files belong to ids that this user's containers do not have, and layers of before a change of the
sub-id ranges to ids that are no longer the user's. Their blob, or the archive made again from the files, is unpacked
with the map of now; the layer in the own store is then found first.
"""

from __future__ import annotations

import os

from rootless import log
from rootless.errors import RootlessError
from rootless.storage.forms import MASKED, STRANGE, form_of, is_extended, on_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rootless.image.refetch import Refetch
    from rootless.image.source import LayerSource
    from rootless.image.store import Image, ImageStore
    from rootless.storage.layers import LayerStore, Staging
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
        staging.commit(_unpack_rebuilt(layer, staging, helper))
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
    fd = store.blobs.open(digest)
    try:
        return unpack_file(store, chain, parent, diff_id, fd, helper)
    finally:
        os.close(fd)


def unpack_file(
    store: ImageStore, chain: str, parent: str, diff_id: str, fd: int, helper: Helper
) -> bool:
    staging = store.layers.begin(chain, parent, diff_id, helper, own=True)
    if staging is None:
        return False
    try:
        staging.start(fd, size=os.fstat(fd).st_size)
        staging.commit(staging.finish())
    except BaseException:
        staging.abort()
        raise
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
    done = Migrated()
    layers = store.layers
    own = on_host(layers.idmap())
    with store.exclusive():
        odd = {chain for chain in layers.all() if _is_outdated(layers, chain, own)}
        if not odd:
            return done
        with store.helper() as helper:
            for image in store.list():
                if not image.read_only:
                    _migrate_image(store, image, odd, helper, done)
            for chain in odd:
                if form_of(layers, chain, own) == STRANGE:
                    _set_aside(store, chain, helper, done)
        for image in store.list():
            if not image.read_only and not all(layers.has(chain) for chain in image.layers):
                done.lost += image.names or [image.id[:12]]
                if not users.get(image.id):
                    store.forget(image)
    return done


def _migrate_image(
    store: ImageStore, image: Image, odd: set[str], helper: Helper, done: Migrated
) -> None:
    """Take an image's layers out of `odd` that could be unpacked again."""
    from rootless.image.refetch import Refetch
    from rootless.image.source import layers_of

    if not odd.intersection(image.layers):
        return
    with Refetch(store, image) as refetch:
        for number, layer in enumerate(layers_of(store, image)):
            if layer.chain in odd and _unpack_anew(
                store, layer, image.layers[number - 1] if number else "", helper, refetch, done
            ):
                odd.discard(layer.chain)
                done.unpacked += 1


def _unpack_anew(
    store: ImageStore,
    layer: LayerSource,
    parent: str,
    helper: Helper,
    refetch: Refetch,
    done: Migrated,
) -> bool:
    """Unpack a layer aside, from the first source that does, and put it in the place of the old one."""
    for source in (_from_blob, _from_files, _from_registry):
        staging = store.layers.begin_new(helper)
        try:
            result = source(store, layer, staging, helper, refetch)
        except (OSError, RootlessError) as error:
            log.debug(f"layer {layer.diff_id}: {error}")
            result = None
        if result is None or staging.diff_id != layer.diff_id:
            staging.abort()
            continue
        _set_aside(store, layer.chain, helper, done)
        staging.name(parent)
        staging.commit(result)
        return True
    return False


def _from_blob(
    store: ImageStore, layer: LayerSource, staging: Staging, _helper: Helper, _refetch: Refetch
) -> dict[str, Any] | None:
    if not layer.has_blob:
        return None
    return _unpack_fd(staging, store.blobs.open(layer.descriptor.digest))


def _from_files(
    store: ImageStore, layer: LayerSource, staging: Staging, helper: Helper, _refetch: Refetch
) -> dict[str, Any] | None:
    # Files of ids that are gone can still be read where their mode lets everybody.
    if not store.layers.is_rebuildable(layer.chain):
        return None
    return _unpack_rebuilt(layer, staging, helper)


def _unpack_rebuilt(layer: LayerSource, staging: Staging, helper: Helper) -> dict[str, Any]:
    """Unpack the archive that another job makes again out of a layer's files."""
    reader, rebuilding = layer.rebuild(helper)
    try:
        staging.start(reader, stream=True)
    finally:
        os.close(reader)
    result = staging.finish()
    rebuilding.wait()
    return result


def _from_registry(
    _store: ImageStore, layer: LayerSource, staging: Staging, _helper: Helper, refetch: Refetch
) -> dict[str, Any] | None:
    fd, _ = refetch.fetch(layer.descriptor)
    return None if fd is None else _unpack_fd(staging, fd)


def _unpack_fd(staging: Staging, fd: int) -> dict[str, Any]:
    try:
        staging.start(fd, size=os.fstat(fd).st_size)
        return staging.finish()
    finally:
        os.close(fd)


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
