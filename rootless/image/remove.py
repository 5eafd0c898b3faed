"""Which image is built on which, what keeps an image, and how images are untagged, removed and pruned.

The rules are Podman's (libimage): a name among several is only taken away; the last one takes the image with it, and
then every nameless parent that nothing else needs. Whoever calls says which containers use which images.
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.image.reference import parse
from rootless.image.store import Image, ImageInUse, ImageStore, ImageUnknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rootless.image.lists import ManifestList

    Users = Mapping[str, list[str]]  # image id → ids of its containers


class Removed:
    """What a removal did."""

    __slots__ = ("deleted", "untagged")

    def __init__(self) -> None:
        self.untagged: list[str] = []
        self.deleted: list[str] = []


class Family:
    """Parents and children among images: a child has its parent's layers and history, and more of either."""

    def __init__(self, images: Iterable[Image]) -> None:
        self.images = list(images)

    def parent(self, image: Image) -> Image | None:
        """The nearest image that this one was built on."""
        best: Image | None = None
        for other in self.images:
            if _is_built_on(image, other) and (
                best is None or len(other.history) > len(best.history)
            ):
                best = other
        return best

    def children(self, image: Image) -> list[Image]:
        return [other for other in self.images if _is_built_on(other, image)]


def _is_built_on(child: Image, parent: Image) -> bool:
    if child.id == parent.id or not parent.layers:
        return False
    mine, theirs = child.history, parent.history
    if len(mine) <= len(theirs) or child.layers[: len(parent.layers)] != parent.layers:
        return False
    return mine[: len(theirs)] == theirs


def remove(
    store: ImageStore,
    text: str,
    users: Users,
    *,
    force: bool = False,
    prune_parents: bool = True,
    remove_container: Callable[[str], None] | None = None,
    family: Family | None = None,
) -> Removed:
    """Remove an image by name or id, or only that name of it; collect() then frees what nobody needs.

    `family` is that of all images, kept up to date here: whoever removes many need not have them read for each.
    """
    by_name = store.resolve(text)
    if by_name is None:
        from rootless.image import lists

        found = lists.find(store, text)
        if found is not None:
            return _remove_list(found, text, force)
    image = store.lookup(text)
    names = list(image.names)
    done = Removed()
    keepers = users.get(image.id, [])
    if keepers and not force and by_name is None:
        raise _in_use(keepers)
    if by_name is None and len(names) > 1 and not force:
        raise RootlessError(
            f'unable to delete image "{image.id}" by ID with more than one tag ({", ".join(names)}): please force removal'
        )
    if image.read_only and (by_name is None or not _is_own_name(store, by_name)):
        raise RootlessError(f'cannot remove read-only image "{image.id}"')
    if by_name is not None and len(names) > 1:
        store.untag(by_name)
        done.untagged.append(by_name)
        store.tell("untag", by_name, image.id)
        store.tell("remove", by_name, image.id)
        return done
    if keepers:
        if not force or remove_container is None:
            raise _in_use(keepers)
        for container in keepers:
            remove_container(container)
    done.untagged += names
    for name in names:
        store.tell("untag", name, image.id)
    if family is None:
        family = Family(store.list())
    _delete(store, image, users, done, prune_parents, family, by_name or "")
    return done


def _in_use(keepers: list[str]) -> ImageInUse:
    return ImageInUse(
        f"image used by {keepers[0]}: image is in use by a container: consider listing external containers "
        "and force-removing image",
        hint=f"`rootless rm {' '.join(one[:12] for one in keepers)}`, or `rootless rmi --force`",
    )


def _remove_list(found: ManifestList, text: str, force: bool) -> Removed:
    name = found.called(text)
    if name and len(found.names) > 1:
        done = Removed()
        done.untagged.append(name)
        found.untag(name)
        found.store.tell("untag", name, found.id)
        found.store.tell("remove", name, found.id)
        return done
    if len(found.names) > 1 and not force:
        raise RootlessError(
            f'unable to delete image "{found.id}" by ID with more than one tag ({", ".join(found.names)}): please force removal'
        )
    return remove_list(found)


def remove_list(found: ManifestList) -> Removed:
    """Remove a manifest list with all its names; its images stay."""
    done = Removed()
    done.untagged += found.names
    done.deleted.append(found.id)
    for name in found.names:
        found.store.tell("untag", name, found.id)
    found.store.tell("remove", found.names[0] if found.names else "", found.id)
    found.delete()
    return done


def _is_own_name(store: ImageStore, name: str) -> bool:
    import os

    return os.path.exists(store._name_path(store.root, name))


def _delete(
    store: ImageStore,
    image: Image,
    users: Users,
    done: Removed,
    prune_parents: bool,
    family: Family,
    name: str = "",
) -> None:
    parent = family.parent(image)
    # As in Podman: with children its layers stay, so it is not told as deleted.
    if not family.children(image):
        done.deleted.append(image.id)
    store.forget(image)
    family.images = [one for one in family.images if one.id != image.id]
    store.tell("remove", name, image.id)
    if (
        prune_parents
        and parent is not None
        and not parent.read_only
        and not users.get(parent.id)
        and not family.children(parent)
        and not store.names_of(parent.id)
    ):
        _delete(store, parent, users, done, prune_parents, family)


def prune(
    store: ImageStore,
    users: Users,
    *,
    everything: bool = False,
    wanted: Callable[[Image], bool] = lambda image: True,
) -> list[str]:
    """Remove nameless images, or `everything` that no container uses; return their ids."""
    from rootless.image import lists

    deleted: list[str] = []
    for found in lists.every(store):
        if (everything or not found.names) and wanted(found.as_image()):
            deleted += remove_list(found).deleted
    while True:
        family = Family(store.list())
        again = False
        for image in family.images:
            if image.read_only or users.get(image.id) or (image.names and not everything):
                continue
            if family.children(image) and not everything:
                continue
            if image.is_host and not image.names:
                continue  # collect() knows when these go
            if not wanted(image):
                continue
            store.forget(image)
            store.tell("remove", "", image.id)
            deleted.append(image.id)
            again = not everything
        if not again:
            return deleted


def untag(store: ImageStore, text: str, names: list[str]) -> None:
    """Take the given names, or every one, from an image."""
    from rootless.image import lists

    listed = lists.find(store, text) if store.resolve(text) is None else None
    if listed is not None:
        _untag_list(listed, names)
        return
    image = store.lookup(text)
    if not names:
        for name in image.names:
            store.untag(name)
            store.tell("untag", name, image.id)
        return
    resolved = []
    for name in names:
        found = store.resolve(name)
        if found is None or found not in image.names:
            raise ImageUnknown(f"{_full(name)}: tag not known")
        resolved.append(found)
    for name in resolved:
        store.untag(name)
        store.tell("untag", name, image.id)


def _full(name: str) -> str:
    """A name as it would be kept here."""
    ref = parse(name)
    return str((ref if ref.domain else ref.with_domain("localhost")).with_default_tag())


def _untag_list(found: ManifestList, names: list[str]) -> None:
    from rootless.image.lists import full_name

    full = [full_name(name) for name in names] or list(found.names)
    for name, given in zip(full, names or full, strict=True):
        if name not in found.names:
            raise ImageUnknown(f"{given}: tag not known")
    for name in full:
        found.untag(name)
        found.store.tell("untag", name, found.id)
