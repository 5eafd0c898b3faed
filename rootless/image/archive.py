"""Images from archives and folders: docker-archive, oci-archive, OCI layout, `dir`.

An archive is hostile (security cases 27, 28, 31, 32; image/members.py): each document is bounded, each digest and size is
compared. A refused archive leaves nothing.
"""

from __future__ import annotations

import os

from rootless.image import platform as platforms
from rootless.image.intake import IncomingLayer, Intake
from rootless.image.members import ArchiveError, member_name, open_members
from rootless.image.reference import parse, parse_normalised
from rootless.oci import manifest as documents
from rootless.oci.digest import hasher, is_digest, sha256
from rootless.oci.document import (
    CONFIG_MAX_BYTES,
    MANIFEST_MAX_BYTES,
    BadDocument,
    parse_list,
    parse_object,
)
from rootless.oci.image import diff_ids, emit, parse_config
from rootless.oci.manifest import Index, Manifest
from rootless.storage.parallel import run_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard

    from rootless.image.members import FolderMembers, Place, TarMembers
    from rootless.image.platform import Platform
    from rootless.image.store import Image, ImageStore
    from rootless.storage.unpack import Helper

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


class Loaded:
    """What came out of an archive."""

    __slots__ = ("image", "names")

    def __init__(self, image: Image, names: list[str]) -> None:
        self.image = image
        self.names = names


def load(
    store: ImageStore,
    source: str | int,
    what: str,
    *,
    platform: Platform | None = None,
    only: str = "",
) -> list[Loaded]:
    """Load every image of an archive or folder, or `only` the one with that name (or `@` and its number)."""
    members = open_members(store, source, what)
    # Pulled images' names need folders; the helper is forked before any thread is.
    store.make()
    try:
        with store.helper() as helper:
            loader = _Loader(store, helper, members, what, platform or platforms.host())
            loader.only = only
            return loader.run()
    finally:
        members.close()


class _Loader:
    def __init__(
        self,
        store: ImageStore,
        helper: Helper,
        members: TarMembers | FolderMembers,
        what: str,
        platform: Platform,
    ) -> None:
        self.store = store
        self.helper = helper
        self.members = members
        self.what = what
        self.platform = platform
        self.only = ""

    def run(self) -> list[Loaded]:
        layout = self.members.find("oci-layout")
        if layout is not None and self.members.find("index.json") is not None:
            return self._oci(layout)
        listing = self.members.find("manifest.json")
        if listing is None:
            raise ArchiveError(
                f"{self.what}: neither a docker archive nor an OCI one: there is no manifest.json and no index.json"
            )
        data = listing.read(MANIFEST_MAX_BYTES, f"{self.what}: manifest.json")
        if data.lstrip()[:1] == b"{":
            return [self._dir(data)]
        return self._docker(data)

    # docker-archive

    def _docker(self, data: bytes) -> list[Loaded]:
        what = f"{self.what}: manifest.json"
        images = parse_list(data, what)
        if not images:
            raise ArchiveError(f"{what}: names no image")
        if self.only.startswith("@") and self.only[1:].isdigit():
            images = images[int(self.only[1:]) : int(self.only[1:]) + 1]
        checked = [self._docker_check(one, what) for one in images]
        if self.only and not self.only.startswith("@"):
            name = str(parse_normalised(self.only).with_default_tag())
            checked = [
                (config, places, [name]) for config, places, names in checked if name in names
            ]
        return [self._docker_image(*one) for one in checked]

    def _docker_check(self, one: object, what: str) -> tuple[bytes, list[Place], list[str]]:
        if not isinstance(one, dict):
            raise BadDocument(f"{what}: not a list of objects")
        config_name, layers, tags = one.get("Config"), one.get("Layers"), one.get("RepoTags") or []
        if not isinstance(config_name, str) or not _are_texts(layers) or not _are_texts(tags):
            raise BadDocument(f"{what}: Config, Layers or RepoTags has the wrong type")
        config = self._member(config_name).read(CONFIG_MAX_BYTES, f"{self.what}: {config_name}")
        ids = diff_ids(parse_config(config, f"{self.what}: {config_name}"), self.what)
        if len(ids) != len(layers):
            raise ArchiveError(
                f"{self.what}: the config names {len(ids)} layers, manifest.json {len(layers)}"
            )
        names = [str(parse_normalised(tag).with_default_tag()) for tag in tags]
        return config, [self._member(name) for name in layers], names

    def _docker_image(self, config: bytes, places: list[Place], names: list[str]) -> Loaded:
        ids = diff_ids(parse_config(config, self.what), self.what)
        descriptors = [
            {"mediaType": documents.DOCKER_LAYER, "size": place.size, "digest": diff_id}
            for place, diff_id in zip(places, ids, strict=True)
        ]

        def make_manifest() -> bytes:
            return emit(
                {
                    "schemaVersion": 2,
                    "mediaType": documents.DOCKER_MANIFEST,
                    "config": {
                        "mediaType": documents.DOCKER_CONFIG,
                        "size": len(config),
                        "digest": sha256(config),
                    },
                    "layers": descriptors,
                }
            )

        manifest = documents.parse(make_manifest(), self.what)
        assert isinstance(manifest, Manifest)
        with Intake(self.store, self.helper, config, manifest.data, manifest, self.what) as intake:
            self._each(
                list(zip(intake.layers(), places, strict=True)),
                lambda layer, place: layer.unpack_file(place.fd, place.start, place.size),
            )
            # A layer in the archive may be compressed: the manifest names the plain one that is kept.
            for descriptor, layer in zip(descriptors, intake.layers(), strict=True):
                descriptor["size"] = self.store.layers.record(layer.chain)["size"]
            intake.manifest_bytes = make_manifest()
            return Loaded(intake.commit(names), names)

    # OCI

    def _oci(self, layout: Place) -> list[Loaded]:
        version = parse_object(
            layout.read(MANIFEST_MAX_BYTES, f"{self.what}: oci-layout"), f"{self.what}: oci-layout"
        ).get("imageLayoutVersion")
        if not isinstance(version, str) or version.split(".")[0] != "1":
            raise ArchiveError(f"{self.what}: OCI layout of unknown version {str(version)[:50]!r}")
        place = self._member("index.json")
        index = documents.parse(
            place.read(MANIFEST_MAX_BYTES, f"{self.what}: index.json"),
            f"{self.what}: index.json",
            documents.OCI_INDEX,
        )
        assert isinstance(index, Index)
        docker_tags = self._docker_tags()
        # Several names of one image are several entries for it.
        wanted: dict[str, tuple[documents.Descriptor, list[str]]] = {}
        for entry in index.manifests:
            if self.only and self.only != entry.annotations.get(_REF_NAME):
                continue
            names = wanted.setdefault(entry.digest, (entry, []))[1]
            name = entry.annotations.get(_CONTAINERD_NAME) or entry.annotations.get(_REF_NAME) or ""
            if name:
                names.append(self._oci_name(name))
        if not wanted and not self.only:
            raise ArchiveError(f"{self.what}: names no image")
        loaded = []
        for entry, names in wanted.values():
            manifest, digests = self._resolve(entry)
            manifest.check_image(self.what)
            names = list(dict.fromkeys(names + docker_tags.get(manifest.config.digest, [])))
            loaded.append(self._oci_image(manifest, names, digests))
        return loaded

    def _docker_tags(self) -> dict[str, list[str]]:
        """The names that a docker archive, which also has an OCI index, gives to each config."""
        listing = self.members.find("manifest.json")
        if listing is None:
            return {}
        found: dict[str, list[str]] = {}
        what = f"{self.what}: manifest.json"
        for one in parse_list(listing.read(MANIFEST_MAX_BYTES, what), what):
            if isinstance(one, dict) and isinstance(one.get("Config"), str):
                tags = one.get("RepoTags") or []
                if _are_texts(tags):
                    digest = f"sha256:{one['Config'].rpartition('/')[2].removesuffix('.json')}"
                    found[digest] = [str(parse_normalised(tag).with_default_tag()) for tag in tags]
        return found

    def _oci_name(self, name: str) -> str:
        reference = parse(name)
        if not reference.domain:
            reference = reference.with_domain("localhost")
        return str(reference.with_default_tag())

    def _resolve(self, entry: documents.Descriptor) -> tuple[Manifest, list[str]]:
        """Follow a descriptor, through indexes, to this platform's manifest."""
        digests: list[str] = []
        for _ in range(4):
            document = documents.parse(
                self._blob(entry, MANIFEST_MAX_BYTES),
                f"{self.what}: {entry.digest}",
                entry.media_type,
            )
            if isinstance(document, Manifest):
                return document, digests
            digests.append(entry.digest)
            entry = platforms.select(document, self.platform, self.what)
        raise ArchiveError(f"{self.what}: indexes nested too deep")

    def _blob(self, descriptor: documents.Descriptor, limit: int) -> bytes:
        """Read a document by its descriptor, compare size and digest."""
        place = self._blob_place(descriptor)
        data = place.read(limit, f"{self.what}: {descriptor.digest}")
        hash = hasher(descriptor.digest)
        hash.update(data)
        if hash.hexdigest() != descriptor.digest.partition(":")[2]:
            raise ArchiveError(
                f"{self.what}: {descriptor.digest}: the member has digest {hash.name}:{hash.hexdigest()}"
            )
        return data

    def _blob_place(self, descriptor: documents.Descriptor) -> Place:
        assert is_digest(descriptor.digest)
        place = self._member(f"blobs/{descriptor.digest.replace(':', '/')}")
        if place.size != descriptor.size:
            raise ArchiveError(
                f"{self.what}: {descriptor.digest}: has {place.size} bytes instead of {descriptor.size}"
            )
        return place

    def _oci_image(self, manifest: Manifest, names: list[str], digests: list[str]) -> Loaded:
        config = self._blob(manifest.config, CONFIG_MAX_BYTES)
        places = [self._blob_place(layer) for layer in manifest.layers]
        return self._image(config, manifest, places, names, digests)

    # dir

    def _dir(self, data: bytes) -> Loaded:
        """The `dir` transport: manifest.json, and each blob under the hex part of its digest."""
        manifest = documents.parse(data, f"{self.what}: manifest.json")
        if not isinstance(manifest, Manifest):
            raise ArchiveError(f"{self.what}: an index in a folder of this kind cannot be loaded")
        manifest.check_image(self.what)
        places = []
        for descriptor in (manifest.config, *manifest.layers):
            place = self._member(descriptor.digest.partition(":")[2])
            if place.size != descriptor.size:
                raise ArchiveError(
                    f"{self.what}: {descriptor.digest}: has {place.size} bytes instead of {descriptor.size}"
                )
            places.append(place)
        config = places[0].read(CONFIG_MAX_BYTES, f"{self.what}: config")
        if sha256(config) != manifest.config.digest:
            raise ArchiveError(
                f"{self.what}: {manifest.config.digest}: the file has another digest"
            )
        return self._image(config, manifest, places[1:], [], [])

    # Common

    def _member(self, name: str) -> Place:
        place = self.members.find(member_name(name))
        if place is None:
            raise ArchiveError(f"{self.what}: has no member {name[:200]!r}")
        return place

    def _image(
        self,
        config: bytes,
        manifest: Manifest,
        places: list[Place],
        names: list[str],
        digests: list[str],
    ) -> Loaded:
        def take(layer: IncomingLayer, place: Place) -> None:
            if layer.digest == layer.diff_id and not place.is_compressed():
                layer.unpack_file(place.fd, place.start, place.size)
                return
            sink = layer.open()
            if sink is None:
                return
            with sink:
                position = sink.offset
                while position < place.size:
                    data = os.pread(
                        place.fd, min(1 << 20, place.size - position), place.start + position
                    )
                    if not data:
                        break
                    sink.write(data)
                    position += len(data)
                sink.finish()

        with Intake(self.store, self.helper, config, manifest.data, manifest, self.what) as intake:
            self._each(list(zip(intake.layers(), places, strict=True)), take)
            return Loaded(intake.commit(names, digests=digests), names)

    def _each(self, work: list[tuple[IncomingLayer, Place]], take: Any) -> None:
        """Bring in several layers at once; the first error ends it."""
        missing = [one for one in work if not self.store.layers.has(one[0].chain)]
        run_all(missing, lambda one: take(*one), len(os.sched_getaffinity(0)) + 1)


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
