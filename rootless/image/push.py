"""Send an image that is here to a registry, an archive or a folder.

A layer's blob goes out as it came, so that its digest, and the image's, stay the same wherever that is possible: from the
store, or once more from where the image came (image/refetch.py). What was never packed is packed on the way. A registry
is asked first whether it has a blob, then whether it has it under another name.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from rootless.errors import NotFound, RootlessError, Usage
from rootless.image import folder, reference, signatures
from rootless.image.folder import Folder
from rootless.image.refetch import Refetch
from rootless.image.registry import Registry
from rootless.image.session import Reporter, Session
from rootless.image.source import LayerSource, manifest_of
from rootless.image.store import Image, ImageStore
from rootless.oci import manifest as documents
from rootless.oci.digest import sha256
from rootless.oci.manifest import Manifest
from rootless.storage.parallel import run_all
from rootless.storage.unpack import Helper

_SENDERS = 4
_OF_PACKING = (
    "io.github.containers.zstd-chunked.",
    "containerd.io/snapshot/stargz/",
    "io.containers.estargz.",
)
_MOUNT_SOURCES = 4
FORMATS = {"oci": documents.OCI_MANIFEST, "v2s2": documents.DOCKER_MANIFEST}
_LAYER_TYPES = {
    (documents.OCI_MANIFEST, ""): documents.OCI_LAYER,
    (documents.OCI_MANIFEST, "gzip"): documents.OCI_LAYER_GZIP,
    (documents.OCI_MANIFEST, "zstd"): documents.OCI_LAYER_ZSTD,
    (documents.DOCKER_MANIFEST, ""): documents.DOCKER_LAYER,
    (documents.DOCKER_MANIFEST, "gzip"): documents.DOCKER_LAYER_GZIP,
}
_CONFIG_TYPES = {
    documents.OCI_MANIFEST: documents.OCI_CONFIG,
    documents.DOCKER_MANIFEST: documents.DOCKER_CONFIG,
}


class PushOptions:
    """What to make of the image on its way."""

    __slots__ = (
        "compress_dir",
        "compression",
        "force_compression",
        "format",
        "keep_plain",
        "level",
        "passphrase_file",
        "sign_by",
    )

    def __init__(
        self,
        *,
        format: str = "",
        compression: str = "",
        level: int | None = None,
        force_compression: bool = False,
        compress_dir: bool = False,
        sign_by: str = "",
        passphrase_file: str = "",
    ) -> None:
        if format and format not in FORMATS:
            if format == "v2s1":
                raise Usage("--format v2s1: docker's schema 1 is obsolete and not supported")
            raise Usage(
                f"unknown format {format!r}: choose one of the supported formats: 'oci', 'v2s2'"
            )
        if compression == "zstd:chunked":
            raise Usage(
                "--compression-format zstd:chunked: layers are not packed in chunks here",
                hint="use zstd, which is as small and read by whoever reads chunks",
            )
        if compression not in ("", "gzip", "zstd"):
            raise Usage(f"--compression-format: {compression!r} is neither gzip nor zstd")
        if format == "v2s2" and compression == "zstd":
            raise Usage("--format v2s2 knows no zstd layers", hint="use --format oci")
        self.format = format
        self.compression = compression
        self.level = level
        self.force_compression = force_compression
        self.compress_dir = compress_dir
        # Whether layers that were never packed stay so, as in folders for skopeo.
        self.keep_plain = False
        self.sign_by = sign_by
        self.passphrase_file = passphrase_file


def push(
    store: ImageStore,
    image: Image,
    name: str,
    destination: str,
    options: PushOptions,
    reporter: Reporter,
    session: Session,
) -> str:
    """Send an image to `[transport:]place`; return the digest of its manifest there.

    An image may have come with several manifests; `name`, by which the user calls it, says which one is meant.
    """
    digest = _Push(store, image, name, options, reporter, session).to(destination)
    store.tell("push", destination.removeprefix("docker://"), image.id)
    return digest


class _Push:
    """One image on its way to any transport."""

    def __init__(
        self,
        store: ImageStore,
        image: Image,
        name: str,
        options: PushOptions,
        reporter: Reporter,
        session: Session,
    ) -> None:
        self._store = store
        self._image = image
        self._name = name
        self._options = options
        self._reporter = reporter
        self._session = session

    def to(self, destination: str) -> str:
        transport, rest = reference.split_transport(destination)
        if transport in ("", "docker"):
            return self._to_registry(rest, destination)
        if self._options.sign_by:
            raise Usage(f"--sign-by: signatures are kept for registries only, not for {transport}:")
        if transport == "containers-storage":
            full = reference.parse_normalised(rest).with_default_tag()
            self._store.tag(self._image, str(full))
            return self._image.digest
        if transport == "docker-archive":
            return self._to_docker_archive(rest, destination)
        with folder.open_target(transport, rest, destination) as target:
            options = folder.suited(self._options, target, transport)
            return self._send(target, "", folder.ANY_TAG, options)

    def _to_registry(self, rest: str, destination: str) -> str:
        ref = reference.parse_normalised(rest).with_default_tag()
        if ref.digest:
            raise Usage(
                f"{destination}: cannot push to a digest",
                hint="push to a tag, or to a name without one",
            )
        options = self._options
        digest = self._send(self._session.for_push(ref), ref.path, ref.tag, options)
        if options.sign_by:
            signature = signatures.sign(ref, digest, options.sign_by, options.passphrase_file)
            signatures.store(ref, digest, signature)
        return digest

    def _send(
        self, target: Registry | Folder, repository: str, tag: str, options: PushOptions
    ) -> str:
        store, image = self._store, self._image
        manifest = manifest_for(store, image, self._name)
        place = Destination(target, repository, self._reporter, self._session)
        return push_image(place, tag, store, image, manifest, options)

    def _to_docker_archive(self, rest: str, destination: str) -> str:
        """Write a docker-archive, whose layers are never packed."""
        from rootless.image import save

        if self._options.compression or self._options.force_compression:
            raise Usage("--compression-format: a docker-archive has plain layers")
        path, _, name = rest.partition(":")
        if not path:
            raise Usage(f"{destination}: no path")
        if name:
            name = str(reference.parse_normalised(name).with_default_tag())
        if os.path.exists(path) and os.path.getsize(path):
            raise RootlessError("docker-archive doesn't support modifying existing images")
        wanted = [save.Wanted(self._image, [name] if name else [])]
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            save.save(self._store, wanted, "docker-archive", save.TarSink(fd))
        except BaseException:
            if os.path.isfile(path) and not os.path.islink(path):
                os.unlink(path)
            raise
        finally:
            os.close(fd)
        return self._image.digest


def manifest_for(store: ImageStore, image: Image, name: str) -> Manifest:
    """Return the manifest with which a name came; the image's last one where that cannot be told."""
    full = store.resolve(name)
    digest = store.digest_of(full) if full is not None else ""
    if digest and digest != image.digest and store.blobs.has(digest):
        found = documents.parse(store.blobs.read(digest), name)
        if isinstance(found, documents.Index):
            listed = {one.digest for one in found.manifests}
            known = [one for one in image.digests if one in listed and store.blobs.has(one)]
            found = documents.parse(store.blobs.read(known[0]), name) if known else found
        if isinstance(found, Manifest) and found.config.digest == f"sha256:{image.id}":
            return found
    return manifest_of(store, image)


class Destination:
    """A repository, or a folder or archive, that images are sent to; by which session, and who hears of it."""

    __slots__ = ("registry", "reporter", "repository", "session")

    def __init__(
        self, registry: Registry | Folder, repository: str, reporter: Reporter, session: Session
    ) -> None:
        self.registry = registry
        self.repository = repository
        self.reporter = reporter
        self.session = session

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.registry.has_blob(self.repository, digest)

    def mount(self, digest: str, source: str) -> bool:
        """Take a blob over from another repository of the same registry, where that can be."""
        return self.registry.mount_blob(self.repository, digest, source)

    def send(self, digest: str, fd: int, size: int) -> None:
        """Send the blob in an open file, which is closed, unless it is there."""
        if not self.skip(digest, size):
            self.upload(digest, fd, size)
        else:
            os.close(fd)

    def skip(self, digest: str, size: int, kind: str = "blob") -> bool:
        """Whether a blob is there, which is told then."""
        if not self.has(digest):
            return False
        self.reporter.blob(kind, digest, size).done("skipped: already exists")
        return True

    def upload(self, digest: str, fd: int, size: int) -> None:
        """Send the blob in an open file, and close it."""
        progress = self.reporter.blob("blob", digest, size)
        with open(fd, "rb", buffering=0) as source:
            self.registry.upload_blob(self.repository, digest, source, size, progress.advance)
        progress.done()

    def send_config(self, digest: str, data: bytes) -> None:
        """Send an image's configuration unless it is there."""
        import io

        if not self.skip(digest, len(data), "config"):
            progress = self.reporter.blob("config", digest, len(data))
            self.registry.upload_blob(self.repository, digest, io.BytesIO(data), len(data))
            progress.done()

    def put_manifest(self, tag_or_digest: str, data: bytes, media_type: str) -> str:
        """Store a manifest; return the digest that it was given there."""
        return self.registry.push_manifest(self.repository, tag_or_digest, data, media_type)


def push_image(
    place: Destination,
    tag: str,
    store: ImageStore,
    image: Image,
    manifest: Manifest,
    options: PushOptions,
) -> str:
    """Send an image's blobs and manifest; without a tag, the manifest is stored by its digest."""
    with store.hold(), Refetch(store, image, place.session) as refetch:
        plan = _Plan(place, store, image, manifest, options, refetch)
        place.reporter.say("Getting image source signatures")
        try:
            descriptors = plan.send_layers()
        finally:
            place.reporter.stop()
        config = image.config_bytes()
        place.send_config(manifest.config.digest, config)
        data, media_type = plan.manifest(descriptors, config)
        place.reporter.say("Writing manifest to image destination")
        return place.put_manifest(tag or sha256(data), data, media_type)


class _Plan:
    """How each layer goes out, and the manifest that says so."""

    def __init__(
        self,
        place: Destination,
        store: ImageStore,
        image: Image,
        manifest: Manifest,
        options: PushOptions,
        refetch: Refetch,
    ) -> None:
        self._place = place
        self._store = store
        self._refetch = refetch
        self._original = manifest
        self._options = options
        self._layers = [
            LayerSource(store, descriptor, chain, diff_id)
            for descriptor, chain, diff_id in zip(
                manifest.layers, image.layers, image.diff_ids, strict=True
            )
        ]
        self._sources = _mount_sources(store, place.registry.host, place.repository)
        self._helper: Helper | None = None
        self._once: dict[str, threading.Lock] = {
            layer.diff_id: threading.Lock() for layer in self._layers
        }

    def _must_pack(self, layer: LayerSource) -> str:
        """Return the packing that a layer is to be given anew; empty where it goes out as it is."""
        wanted, has = self._options.compression, layer.descriptor.packing
        if self._options.force_compression and (wanted or "gzip") != has:
            return wanted or "gzip"
        if not has:
            return wanted or ("" if self._options.keep_plain else "gzip")
        if self._options.format == "v2s2" and has == "zstd":
            return "gzip"
        if self._options.level is not None and self._options.force_compression:
            return wanted or has
        return ""

    def send_layers(self) -> list[dict[str, Any]]:
        """Send all layers; return their descriptors in order."""
        found: list[dict[str, Any]] = [{} for _ in self._layers]

        def send(number: int) -> None:
            layer = self._layers[number]
            # Two layers with one content: the second finds it in the registry.
            with self._once[layer.diff_id]:
                found[number] = self._send(layer)

        order = sorted(range(len(self._layers)), key=lambda n: -self._layers[n].descriptor.size)
        if any(self._must_pack(layer) or not layer.has_blob for layer in self._layers):
            # The helper makes archives again out of unpacked layers; it is forked before any thread.
            with self._store.helper() as helper:
                self._helper = helper
                run_all(order, send, _SENDERS)
        else:
            run_all(order, send, _SENDERS)
        return found

    def _send(self, layer: LayerSource) -> dict[str, Any]:
        original = layer.descriptor
        packing = self._must_pack(layer)
        if not packing:
            if original.is_foreign:
                return original.raw  # it stays where its publisher keeps it
            if self._is_there(original.digest, original.size):
                return _descriptor(original.digest, original.size, original.packing)
            fd = self._open_exact(layer) if layer.exact else self._refetch.open(original)
            if fd is not None:
                self._place.upload(original.digest, fd, original.size)
                return _descriptor(original.digest, original.size, original.packing)
            packing = original.packing or "gzip"
        assert self._helper is not None
        packed = layer.open_compressed(self._helper, packing, self._options.level)
        if self._is_there(packed.digest, packed.size):
            os.close(packed.fd)
        else:
            self._place.upload(packed.digest, packed.fd, packed.size)
        return _descriptor(packed.digest, packed.size, packing)

    def _open_exact(self, layer: LayerSource) -> int:
        if layer.has_blob:
            return self._store.blobs.open(layer.descriptor.digest)
        assert self._helper is not None
        return layer.open_exact(self._helper)

    def _is_there(self, digest: str, size: int) -> bool:
        if self._place.skip(digest, size):
            return True
        for source in self._sources.get(digest, ())[:_MOUNT_SOURCES]:
            if self._place.mount(digest, source):
                said = f"skipped: mounted from {source}"
                self._place.reporter.blob("blob", digest, size).done(said)
                return True
        return False

    def manifest(self, layers: list[dict[str, Any]], config: bytes) -> tuple[bytes, str]:
        """Return the original manifest where nothing had to change, else a new one."""
        from rootless.oci.image import emit

        original = self._original
        wanted = FORMATS.get(self._options.format, original.media_type)
        packings = [one.get("packing", "") for one in layers]
        if "zstd" in packings and wanted == documents.DOCKER_MANIFEST:
            wanted = documents.OCI_MANIFEST
        same = wanted == original.media_type and all(
            one["digest"] == was.digest for one, was in zip(layers, original.layers, strict=True)
        )
        if same:
            return original.data, original.media_type
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": wanted,
            "config": {
                "mediaType": _CONFIG_TYPES[wanted],
                "digest": original.config.digest,
                "size": len(config),
            },
            "layers": [
                _converted(one, was.raw, wanted)
                for one, was in zip(layers, original.layers, strict=True)
            ],
        }
        if wanted == documents.OCI_MANIFEST and original.raw.get("annotations"):
            document["annotations"] = original.raw["annotations"]
        return emit(document), wanted


def _descriptor(digest: str, size: int, packing: str) -> dict[str, Any]:
    return {"digest": digest, "size": size, "packing": packing}


def _converted(layer: dict[str, Any], was: dict[str, Any], media_type: str) -> dict[str, Any]:
    if "packing" not in layer:
        return layer
    kind = _LAYER_TYPES[media_type, layer["packing"]]
    document = {"mediaType": kind, "digest": layer["digest"], "size": layer["size"]}
    annotations = was.get("annotations") or {}
    if layer["digest"] != was["digest"]:
        # Offsets and checksums of the former packing: whoever fetched by them would fail.
        annotations = {
            key: value for key, value in annotations.items() if not key.startswith(_OF_PACKING)
        }
    if annotations and media_type == documents.OCI_MANIFEST:
        document["annotations"] = annotations
    return document


def _mount_sources(store: ImageStore, host: str, repository: str) -> dict[str, list[str]]:
    """Return, by blob, the other repositories of a registry that images here came from or went to."""
    found: dict[str, list[str]] = {}
    for image in store.list():
        repositories = []
        for name in [*image.names, *(origin for origin, _ in image.origins)]:
            ref = reference.parse(name)
            if ref.domain == host and ref.path != repository:
                repositories.append(ref.path)
        if not repositories:
            continue
        try:
            layers = manifest_of(store, image).layers
        except (RootlessError, FileNotFoundError):
            continue
        for layer in layers:
            known = found.setdefault(layer.digest, [])
            known += [one for one in repositories if one not in known]
    return found


def default_destination(store: ImageStore, name: str, image: Image) -> str:
    """Return where `push IMAGE` without a destination goes: the image's own full name."""
    full = store.resolve(name)
    if full is not None:
        return full
    if not image.names:
        raise NotFound(f"{name}: the image has no name to push it to", hint="give a destination")
    return image.names[0]
