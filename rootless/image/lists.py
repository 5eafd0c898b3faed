"""Manifest lists that are made here: kept as records, filled from images, registries and files, pushed to registries.

    lists/ID        a list: its names, the index as it stands, where each entry's content is
    lists/lock      held by who changes one, from before it is read until it is written (changing())

To everybody else a list is its image for this machine. An entry's content is not copied in: a local image stays one image, and what is in a registry is copied from there when the
list is pushed. Files of artifacts are the exception; the record names their blobs, which keeps them from being collected.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Conflict, NotFound, RootlessError, Usage
from rootless.files import MEND, Lock, make_dirs, read_record, write_json
from rootless.image import reference
from rootless.image.store import Image, ImageStore, ImageUnknown
from rootless.oci.digest import is_digest, is_hex, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_RECORD = {
    "id": str, "names": list, "created": float, "index": dict, "sources": dict, "blobs": list,
}  # fmt: skip


class ManifestList:
    """One list; `save` writes what was changed."""

    __slots__ = ("record", "store")

    def __init__(self, store: ImageStore, record: dict[str, Any]) -> None:
        self.store = store
        self.record = record

    @property
    def id(self) -> str:
        identity: str = self.record["id"]
        return identity

    @property
    def names(self) -> list[str]:
        """Its names, the newest first."""
        names: list[str] = self.record["names"]
        return names

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.names[0] if self.names else self.id[:12]

    @property
    def index(self) -> dict[str, Any]:
        index: dict[str, Any] = self.record["index"]
        return index

    @property
    def entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.index["manifests"]
        return entries

    def entry(self, digest: str) -> dict[str, Any]:
        for one in self.entries:
            if one["digest"] == digest:
                return one
        raise NotFound(f"{self.name}: has no entry {digest}")

    def put(self, descriptor: dict[str, Any], source: str) -> None:
        """Add an entry, in the place of one with the same digest."""
        digest = descriptor["digest"]
        self.index["manifests"] = [one for one in self.entries if one["digest"] != digest]
        self.entries.append(descriptor)
        self.record["sources"][digest] = source

    def remove(self, digest: str) -> None:
        self.entry(digest)
        self.index["manifests"] = [one for one in self.entries if one["digest"] != digest]
        self.record["sources"].pop(digest, None)
        self.record["blobs"] = [one for one in self.record["blobs"] if one[0] != digest]

    def save(self) -> None:
        make_dirs(f"{self.store.root}/lists")
        write_json(f"{self.store.root}/lists/{self.id}", self.record)

    def tag(self, name: str) -> None:
        """Give it a further name, and take it from another list or image."""
        with changing(self.store):
            take_name(self.store, name)
            if self.store.resolve(name) == name:
                self.store.untag(name)
            self.record = self._now()
            self.record["names"] = [name, *(one for one in self.names if one != name)]
            self.save()

    def untag(self, name: str) -> None:
        with changing(self.store):
            self.record = self._now()
            self.record["names"] = [one for one in self.names if one != name]
            self.save()

    def _now(self) -> dict[str, Any]:
        """What is written of it, read again under the lock."""
        try:
            return read_list(self.store, self.id)
        except FileNotFoundError:
            raise ImageUnknown(f"{self.name}: image not known") from None

    def called(self, text: str) -> str:
        """The name of its that a text means; empty where the text is an id."""
        if _is_full_id(text):
            return ""
        try:
            full = full_name(text)
        except RootlessError:
            return ""
        return full if full in self.names else ""

    def delete(self) -> None:
        os.unlink(f"{self.store.root}/lists/{self.id}")

    def as_image(self) -> Image:
        """A row among images, with the index as its only document."""
        from rootless.oci.image import emit

        data = emit(self.index)
        digest = sha256(data)
        labels = self.index.get("annotations") or {}
        record = {
            "id": self.id,
            "digest": digest,
            "digests": [digest],
            "chains": [],
            "size": len(data),
            "created": self.record.get("created", 0),
            "config": {"rootfs": {}, "config": {"Labels": labels}},
            "list": True,
        }
        image = Image(self.store, record)
        image._names = self.names
        return image

    def here(self) -> Image | None:
        """Its image for this machine, where that is here."""
        from rootless.image import platform as platforms
        from rootless.oci import manifest as documents
        from rootless.oci.image import emit

        index = documents.parse(emit(self.index), self.name)
        assert isinstance(index, documents.Index)
        try:
            chosen = platforms.select(index, platforms.host(), self.name).digest
        except RootlessError:
            return None
        kind, _, rest = self.record["sources"].get(chosen, "").partition(" ")
        if kind == "image":
            return self.store.get(rest.partition(" ")[0])
        for image in self.store.list():
            if chosen in image.digests:
                return image
        return None


def _is_full_id(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return len(digits) == 64 and is_hex(digits)


def full_name(text: str) -> str:
    """Return a list's full name: a short one is this machine's."""
    ref = reference.parse(reference.split_transport(text)[1])
    if ref.digest:
        raise Usage(f"{text}: a list has a name and a tag, but no digest")
    return str((ref if ref.domain else ref.with_domain("localhost")).with_default_tag())


def find(store: ImageStore, text: str) -> ManifestList | None:
    """Find a list by its name or by the start of its id."""
    known = every(store)
    if not known:
        return None
    try:
        full = "" if _is_full_id(text) else full_name(text)
    except Usage:
        full = ""
    except RootlessError:
        if not reference.is_image_id(text):
            raise
        full = ""
    for one in known:
        if full in one.names:
            return one
    if reference.is_image_id(text):
        found = [one for one in known if one.id.startswith(text.removeprefix("sha256:"))]
        if len(found) == 1:
            return found[0]
    return None


def take_name(store: ImageStore, name: str) -> None:
    """A full name is given to something else: take it from the list that has it."""
    for one in every(store):
        if name in one.names:
            one.record["names"] = [other for other in one.names if other != name]
            one.save()


def lookup(store: ImageStore, text: str) -> ManifestList:
    found = find(store, text)
    if found is None:
        image = store.find(text)
        if image is not None:
            raise RootlessError(f"{store.resolve(text) or text}: image is not a manifest list")
        raise ImageUnknown(f"{text}: image not known")
    return found


def read_list(store: ImageStore, identity: str) -> dict[str, Any]:
    """A list's record; a damaged one is an error that names the file."""
    path = f"{store.root}/lists/{identity}"
    record = read_record(path, _RECORD)
    entries = record["index"].get("manifests")
    if (
        record["id"] != identity
        or not all(isinstance(one, str) for one in record["names"])
        or not isinstance(entries, list)
        or not all(isinstance(one, dict) and is_digest(one.get("digest")) for one in entries)
        or not all(isinstance(one, list) and len(one) == 2 for one in record["blobs"])
    ):
        raise RootlessError(f"{path}: damaged record: it describes no list", hint=MEND)
    return record


def every(store: ImageStore) -> list[ManifestList]:
    """Every list, the newest first."""
    folder = f"{store.root}/lists"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if is_hex(name):
            try:
                found.append(ManifestList(store, read_list(store, name)))
            except FileNotFoundError:
                continue
    found.sort(key=lambda one: (-one.record["created"], one.id))
    return found


def changing(store: ImageStore) -> Lock:
    """The lock, to be entered before a list is looked up to be changed, or two at once would undo each other's work."""
    store.make()
    make_dirs(f"{store.root}/lists")
    return Lock(f"{store.root}/lists/lock")


def create(store: ImageStore, name: str, *, amend: bool = False) -> ManifestList:
    """Make an empty list, to be filled and saved; with `amend`, one that is there is returned as it is."""
    full = full_name(name)
    known = find(store, full)
    if known is not None:
        if amend:
            return known
        raise Conflict(
            f'image name "{full}" is already associated with image "{known.id}": that name is already in use'
        )
    if store.resolve(full) is not None:
        raise Conflict(f"{full}: is the name of an image already")
    from rootless.oci.manifest import OCI_INDEX

    record = {
        "id": os.urandom(32).hex(),
        "names": [full],
        "created": time.time(),
        "index": {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []},
        "sources": {},
        "blobs": [],
    }
    return ManifestList(store, record)
